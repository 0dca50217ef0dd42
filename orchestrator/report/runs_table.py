"""What `capsweep runs` prints: two lines per run, first its progress, then its task, models, texts and times.

Anyone may have made the folders that are listed, so their names are shown literally.
"""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from orchestrator.errors import literal
from orchestrator.report.tables import short_names
from orchestrator.runs.listing import ListedRun, Listing
from tasks.wording import counted

NAME_WIDTH = 40
"""Longer names push what follows to the right."""
MOST_MODELS = 2
"""Models named in a line; with more, the line breaks in a terminal of 120 columns."""
MOST_NAMED = 5
"""Most folders named that are not runs."""


def print_listing(console: Console, listing: Listing, url: str, *, limit: int) -> None:
    """Print the newest `limit` runs, then runs that cannot be read, then folders that are not runs."""
    if not listing.runs and not listing.damaged:
        _print_message(console, f"no runs in {url}; `capsweep run SPEC` makes one, `storage` in SPEC sets where.")
    width = min(NAME_WIDTH, max((len(run.name) for run in listing.runs[:limit]), default=0))
    for run in listing.runs[:limit]:
        console.print(_first_line(run, width), soft_wrap=True)
        console.print(_second_line(run), soft_wrap=True)
    if len(listing.runs) > limit:
        _print_message(console, f"the newest {limit} of {counted(len(listing.runs), 'run')} (--limit)")
    if any(run.writer for run in listing.runs[:limit]):
        _print_message(
            console, "Counts of a run in progress are those of its last session; `capsweep status RUN` counts again."
        )
    for name, why in sorted(listing.damaged.items()):
        _print_message(console, f"{name}: {why}")
    if listing.foreign:
        named = ", ".join(listing.foreign[:MOST_NAMED])
        more = len(listing.foreign) - MOST_NAMED
        _print_message(console, f"not runs: {named}" + (f" and {more} more" if more > 0 else ""))


def _print_message(console: Console, message: str) -> None:
    console.print(Text(literal(message).replace("\n", " ")), soft_wrap=True)


def _first_line(run: ListedRun, width: int) -> Text:
    line = Text(_one_line(run.name).ljust(width), style="bold")
    line.append(f"  {run.done} of {run.done + run.open + run.failed} done", style="not bold")
    for count, what, style in ((run.open, "open", "not bold yellow"), (run.failed, "failed", "not bold red")):
        if count:
            line.append(f", {count} {what}", style=style)
    if means := [group.mean_tokens for group in run.capacities]:
        low, high = f"{min(means):.1f}", f"{max(means):.1f}"
        # One mean over unlike models or numbers of vectors would be a measure of neither.
        by = " and ".join(what for what, several in _compared(run) if several)
        line.append(f"  {low} tokens" if not by else f"  {low} to {high} tokens by {by}", style="not bold")
    return line


def _compared(run: ListedRun) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """In what the groups of a run differ."""
    models, vectors = ({getattr(group, of) for group in run.capacities} for of in ("model", "num_vectors"))
    return ("model", len(models) > 1), ("k", len(vectors) > 1)


def _second_line(run: ListedRun) -> Text:
    parts = [
        run.task or "?",
        _models(run.models),
        counted(run.num_texts, "text"),
        f"k {' '.join(map(str, run.num_vectors))}",
        times(run.begun, run.written),
    ]
    if run.sessions > 1:
        parts.append(counted(run.sessions, "session"))
    line = Text("    " + _one_line(" · ".join(parts)), style="dim")
    if run.writer:
        line.append(f" · {_one_line(run.writer)} writes", style="not dim green")
    return line


def _models(models: Sequence[str]) -> str:
    names = list(short_names(models).values())
    more = len(names) - MOST_MODELS
    return ", ".join(names[:MOST_MODELS]) + (f" +{more}" if more > 0 else "")


def times(begun: datetime, written: datetime) -> str:
    """From when to when, in the time zone of this machine."""
    begun, written = begun.astimezone(), written.astimezone()
    same_day = begun.date() == written.date()
    return f"{begun:%Y-%m-%d %H:%M} to {written:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}}"


def _one_line(name: str) -> str:
    return literal(name).replace("\n", "\N{REPLACEMENT CHARACTER}")
