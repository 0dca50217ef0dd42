"""The tables of the live view: models, engines, last verdicts. Nothing in them wraps; what is too long is cut.

Texts, names and reasons may hold anything, so they are shown literally, each on one line.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from orchestrator.errors import literal
from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.planning.plan import Sample
from orchestrator.report.tables import beginning, short_names
from orchestrator.report.terminal import name_end
from orchestrator.search.bracket import Verdict
from orchestrator.store.passages import given_back
from tasks.wording import counted

MOST_MODELS = MOST_ENGINES = 6
"""Most lines of each table: a terminal may have only 24."""
NAME_WIDTH, SOURCE_WIDTH, TEXT_WIDTH = 24, 20, 200
OUTCOME_STYLES = {"lossless": "green", "failed": "red"}
STATE_STYLES = {"loading": "yellow", "lost": "red"}


def models_table(done: Mapping[str, int], total: Mapping[str, int]) -> Table:
    """Finished searches by model; if not all models fit, those with open searches come first."""
    table = _grid("model", "searches")
    names = short_names(total)
    order = list(total)
    if len(order) > MOST_MODELS:
        order.sort(key=lambda name: done[name] == total[name])
    for name in order[:MOST_MODELS]:
        table.add_row(Text(name_end(names[name], NAME_WIDTH)), f"{done[name]}/{total[name]}")
    if rest := order[MOST_MODELS:]:
        table.add_row(f"{len(rest)} more", f"{sum(done[n] for n in rest)}/{sum(total[n] for n in rest)}")
    return table


def engines_table(lines: Sequence[EngineProgress]) -> Table:
    """One line per engine, those that are not running first, and one for all; of many engines only the first."""
    table = _grid("engine", "slots busy", "steps/s", "tokens/s", "longest")
    table.add_column("state", no_wrap=True)
    order = sorted(lines, key=lambda line: line.state == "running")
    shown = order if len(order) <= MOST_ENGINES else order[: MOST_ENGINES - 1]
    for line in shown:
        table.add_row(
            Text(name_end(line.name, NAME_WIDTH)),
            f"{line.num_busy}/{line.num_slots}" if line.num_slots else "-",
            rate(line.steps_per_second),
            f"{line.tokens_per_second:,.0f}",
            str(line.longest or "-"),
            Text(line.state, style=STATE_STYLES.get(line.state, "")),
        )
    if len(order) > 1:
        table.add_row(
            f"all {len(order)}",
            f"{sum(line.num_busy for line in order)}/{sum(line.num_slots for line in order)}",
            "",
            f"{sum(line.tokens_per_second for line in order):,.0f}",
            str(max(line.longest for line in order) or "-"),
            ", ".join(f"{count} {state}" for state, count in Counter(line.state for line in order).most_common()),
            style="dim",
        )
    return table


def verdicts_table(verdicts: Sequence[tuple[Verdict, Sample]]) -> Table:
    """Verdicts of probes, each with the text that its memory gives back, or with the reason of a failure."""
    table = _grid("text", "asked", "proven")
    table.add_column("verdict", no_wrap=True)
    table.add_column("what the memory gives back", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for verdict, sample in verdicts:
        result = verdict.reason or given_back(
            sample.text, sample.token_ends, sample.num_texts, num_tokens=verdict.proven_length
        )
        table.add_row(
            Text(name_end(sample.source, SOURCE_WIDTH)),
            str(verdict.length),
            str(verdict.proven_length),
            Text(verdict.outcome, style=OUTCOME_STYLES.get(verdict.outcome, "")),
            Text(beginning(result, TEXT_WIDTH), style="red" if verdict.reason else ""),
        )
    return table


def verdict_line(verdict: Verdict, sample: Sample) -> str:
    """One line about a verdict, for a log: which search and probe, what was asked, what is proven."""
    parts = [
        f"{sample.model}  {sample.source}  search {verdict.search_id[:6]} probe {verdict.number}",
        f"{verdict.outcome} at {counted(verdict.length, 'token')}",
        f"{verdict.proven_length} proven",
        f"{verdict.trained_tokens:,} trained",
        *([verdict.reason] if verdict.reason else []),
    ]
    return literal(", ".join(" ".join(part.split("\n")) for part in parts))


def rate(number: float) -> str:
    """A rate, with one decimal below ten: 0.3, 4.2, 85."""
    return f"{number:.1f}" if 0 < number < 10 else f"{number:,.0f}"


def _grid(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True, min_width=len(first), overflow="ellipsis")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    return table
