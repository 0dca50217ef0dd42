"""The page of the runs in a folder: how far each is, and what each holds of a model and number of vectors.

Pure functions from a listing to text. Knows nothing of files or HTTP.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from orchestrator.errors import literal
from orchestrator.report.page import resource
from orchestrator.report.runs_table import times
from orchestrator.report.tables import short_names
from orchestrator.runs.listing import GroupCapacity, ListedRun, Listing
from tasks.wording import counted

MOST_NAMED = 8
"""Most folders named that are not runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One task, model and number of vectors, as several runs measured it."""

    task: str
    model: str
    num_vectors: int
    most: float
    """Largest mean of this task and model with any number of vectors, in tokens; at least 1."""
    runs: tuple[tuple[str, GroupCapacity], ...]
    """(name of the run, what it measured), the largest mean first."""


def render_runs(listing: Listing, url: str) -> str:
    """The page of a folder of runs, as HTML that fetches nothing."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"counted": counted, "in_url": _in_url}
    more = len(listing.foreign) - MOST_NAMED
    return environment.from_string(resource("runs.html.j2", "orchestrator.watching")).render(
        style=Markup(resource("page.css") + resource("runs.css", "orchestrator.watching")),
        script=Markup(resource("runs.js", "orchestrator.watching")),
        name=literal(url.rstrip("/").rpartition("/")[2] or url),
        url=literal(url),
        summary=runs_in_words(listing),
        runs=[(run, _facts(run)) for run in listing.runs],
        groups=groups_of(listing.runs),
        damaged=[(name, literal(why)) for name, why in sorted(listing.damaged.items())],
        foreign=list(map(literal, listing.foreign[:MOST_NAMED])) + ([f"{more} more"] if more > 0 else []),
    )


def runs_in_words(listing: Listing) -> str:
    """How many runs there are, and how many are in progress."""
    written = sum(run.writer is not None for run in listing.runs)
    return counted(len(listing.runs), "run") + (f", {written} in progress" if written else "")


def groups_of(runs: Sequence[ListedRun]) -> list[Group]:
    """The capacities of the runs by task, model and number of vectors."""
    found: dict[tuple[str, str, int], list[tuple[str, GroupCapacity]]] = defaultdict(list)
    for run in runs:
        for capacity in run.capacities:
            found[run.task or "", capacity.model, capacity.num_vectors].append((run.name, capacity))
    most: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for (task, model, _), measured in found.items():
        most[task, model] = max(most[task, model], *(capacity.mean_tokens for _, capacity in measured))
    return [
        Group(
            task=task,
            model=model,
            num_vectors=num_vectors,
            most=most[task, model],
            runs=tuple(sorted(measured, key=lambda one: -one[1].mean_tokens)),
        )
        for (task, model, num_vectors), measured in sorted(found.items())
    ]


def _in_url(name: str) -> str:
    # Names of folders may hold what is no letter.
    return quote(name, safe="", errors="replace")


def _facts(run: ListedRun) -> list[str]:
    facts = [run.task or "", ", ".join(_short(run.models)), counted(run.num_texts, "text")]
    if run.num_vectors:
        facts.append(f"k {' '.join(map(str, run.num_vectors))}")
    # A heartbeat every five seconds is no news.
    facts.append(f"since {run.begun.astimezone():%Y-%m-%d %H:%M}" if run.writer else times(run.begun, run.written))
    if run.sessions > 1:
        facts.append(counted(run.sessions, "session"))
    return list(filter(None, facts))


def _short(models: Sequence[str]) -> list[str]:
    return [short_names(models)[model] for model in models]
