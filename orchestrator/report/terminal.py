"""Tables for the terminal, at most 100 columns wide.

Text from data is wrapped in rich.text.Text, because rich reads `[bold]` in a string as markup.
"""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from orchestrator.errors import literal
from orchestrator.planning.estimate import ModelEstimate
from orchestrator.report.comparison import Compared
from orchestrator.report.frontier import FrontierLine, group_names
from orchestrator.report.law import Series
from orchestrator.report.pace import duration
from orchestrator.report.tables import (
    CENSORED,
    RETURN_SIGN,
    Group,
    GroupSummary,
    Spread,
    beginning,
    search_rows,
    short_names,
)

STATUS_STYLES = {"failed": "red", "open": "yellow", **dict.fromkeys(CENSORED, "yellow")}
LEFT = ("model", "source", "group", "x", "of", "unit")
FRONTIER_DIGITS = {"certified": 1, "reached": 1, "bits": 0, "bits_per_dimension": 2}
"""Columns of a frontier, and the decimals of their means."""
MODEL_WIDTH, SOURCE_WIDTH, OF_WIDTH, ID_WIDTH, TEXT_WIDTH = 16, 20, 22, 6, 80


def summary_table(groups: Sequence[GroupSummary]) -> Table:
    """Capacity by group, with 95 % intervals of the means, and how many memories are exact in float32."""
    table = _table("Capacity by group", "model", "source", "k", "n", "tokens", "bits", "bits/dim", "steps")
    captions: list[str] = []
    if any(group.num_censored for group in groups):
        captions.append("≥: some texts ended before their memory was full")
    if decoded := sum(group.num_in_float32 for group in groups):
        exact = sum(group.num_exact_in_float32 for group in groups)
        captions.append(f"decoded by transformers in float32: {exact} of {decoded} exact")
    table.caption = "\n".join(captions) or None
    names = short_names(group.model for group in groups)
    for group in groups:
        at_least = group.num_censored > 0
        asked = group.num_searches + group.num_open + group.num_failed
        table.add_row(
            Text(name_end(names[group.model], MODEL_WIDTH)),
            Text(name_end(group.source, MODEL_WIDTH)),
            str(group.num_vectors),
            str(asked) if asked == group.num_searches else f"{group.num_searches}/{asked}",
            _spread(group.tokens, 1, at_least=at_least),
            _spread(group.bits, 0, at_least=at_least),
            "-" if group.bits_per_dimension is None else f"{group.bits_per_dimension.mean:.2f}",
            "-" if group.mean_steps is None else f"{group.mean_steps:,.0f}",
        )
    return table


def frontier_table(lines: Sequence[FrontierLine], unit: str) -> Table:
    """What each group held after each cost: one line for each cost and group, with 95 % intervals of the means.

    Args:
        lines: Lines of a frontier, all at the same costs.
        unit: The cost, in words.
    """
    table = _table(f"Capacity by {unit}", unit.split()[-1], "group", "n", "certified", "reached", "bits", "bits/dim")
    table.caption = "certified: given back when decoded (-: not yet); reached: teacher forced; ≥: some ended before"
    names = group_names([line.group for line in lines])
    by_group: dict[Group, dict[str, FrontierLine]] = defaultdict(dict)
    for line in lines:
        by_group[line.group][line.proof if line.measure == "tokens" else line.measure] = line
    for cost in sorted({point.cost for line in lines for point in line.points}):
        for group, found in by_group.items():
            table.add_row(
                f"{cost:,}",
                Text(name_end(names[group], OF_WIDTH)),
                str(found["reached"].num_searches),
                *(_mean_of(found.get(name), cost, digits) for name, digits in FRONTIER_DIGITS.items()),
            )
    return table


def _mean_of(line: FrontierLine | None, cost: int, digits: int) -> Text:
    point = None if line is None else next((point for point in line.points if point.cost == cost), None)
    if line is None or point is None:
        return Text("-")
    # A line of the terminal has room for one interval: that of the tokens that count.
    interval = point.interval if line.is_claim and line.measure == "tokens" else None
    return _with_interval(point.mean, interval, digits, at_least=point.num_censored > 0)


def laws_table(several: Sequence[Series]) -> Table:
    """The power law of each series that has one."""
    table = _table("Capacity as a power law of x", "x", "of", "unit", "n", "law", "95 %", "off by")
    table.caption = (
        "95 %: bootstrap over texts; for width, layers and parameters over models. Off by: factor, one sd of the points"
    )
    for one in several:
        if one.law is not None:
            table.add_row(
                one.axis.replace("_", " "),
                Text(name_end(one.of, OF_WIDTH)),
                one.unit,
                str(sum(not point.is_bound for point in one.points)),
                f"{one.law.scale:.3g} x^{one.law.exponent:.2f}",
                "-" if one.law.interval is None else "{:.2f} to {:.2f}".format(*one.law.interval),
                f"{one.law.misfit:.2f}",
            )
    return table


def searches_table(searches: pa.Table, samples: pa.Table, limit: int = 20) -> Table:
    """The first `limit` searches, each with the beginning of what its memory gives back."""
    rows = search_rows(searches, samples)
    names = short_names(row.model for row in rows)
    several = len(names) > 1
    table = _table("Searches", "source", "search", *(["model"] if several else []), "k", "tokens", "bits", "bits/dim")
    table.add_column("status", no_wrap=True)
    # Takes the width that is left, so that a wider terminal shows more of the text.
    table.add_column("what the memory gives back", no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    if len(rows) > limit:
        table.caption = f"the first {limit} of {len(rows)}"
    for row in rows[:limit]:
        table.add_row(
            Text(name_end(row.source, SOURCE_WIDTH)),
            # `capsweep decode` accepts the beginning of an id.
            Text(row.search_id[:ID_WIDTH], style="dim"),
            *([Text(name_end(names[row.model], MODEL_WIDTH))] if several else []),
            str(row.num_vectors),
            "-" if row.capacity_tokens is None else str(row.capacity_tokens),
            "-" if row.capacity_bits is None else f"{row.capacity_bits:.0f}",
            "-" if row.bits_per_dimension is None else f"{row.bits_per_dimension:.2f}",
            Text(row.status, style=STATUS_STYLES.get(row.status, "")),
            Text(beginning(row.text, TEXT_WIDTH)),
        )
    return table


def compared_table(lines: Sequence[Compared]) -> Table:
    """Measured and published values, one line per measure."""
    table = _table("Measured and published", "model", "source", "k")
    table.add_column("measure", no_wrap=True)
    for column in ("unit", "measured", "published", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    table.caption = "mean ± standard deviation; difference in published standard deviations"
    for line in lines:
        difference = line.difference_in_sd
        table.add_row(
            Text(name_end(line.model, MODEL_WIDTH)),
            Text(name_end(line.source, MODEL_WIDTH)),
            str(line.num_vectors),
            line.measure,
            line.unit,
            _plus_minus(line.measured, line.measured_sd),
            _plus_minus(line.published, line.published_sd),
            "-" if difference is None else f"{difference:+.1f} sd",
        )
    return table


def estimates_table(estimates: Sequence[ModelEstimate], *, tflops: float | None) -> Table:
    """Estimated cost of a sweep, one line per model: on a device of `tflops` Tflop/s, or on the one that was timed."""
    table = _table("", "model", "params", "context", "texts", "searches", "probes", "Tflop", "time")
    table.title = None
    names = short_names(row.model for row in estimates)
    for row in estimates:
        table.add_row(
            Text(name_end(names[row.model], MODEL_WIDTH)),
            _count(row.parameters),
            "-" if row.context is None else f"{row.context:,}",
            f"{row.texts:,}",
            f"{row.searches:,}",
            f"~{_count(row.probes)}",
            f"~{_count(row.tera_operations)}",
            _time(row, tflops),
        )
    return table


def _time(row: ModelEstimate, tflops: float | None) -> str:
    seconds = row.seconds if tflops is None else 3600 * row.gpu_hours(tflops)
    return "?" if seconds is None else f"~{duration(seconds)}"


def _count(number: float) -> str:
    """A number with a unit, in at most three digits: 6.9B, 160M, 19.2k, 870, 0.032."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.{0 if scaled >= 100 else 1}f}{unit}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.2g}"


def _plus_minus(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:,.1f}" + ("" if sd is None else f" ± {sd:,.1f}")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=True)
    return table


def name_end(name: str, width: int) -> str:
    """The last `width` characters of a name, on one line: names of texts and models differ at their end."""
    name = literal(name).replace("\n", RETURN_SIGN)
    return name if len(name) <= width else "…" + name[1 - width :]


def _spread(spread: Spread | None, digits: int, *, at_least: bool) -> Text:
    if spread is None:
        return Text("-")
    return _with_interval(spread.mean, spread.interval, digits, at_least=at_least)


def _with_interval(mean: float, interval: tuple[float, float] | None, digits: int, *, at_least: bool) -> Text:
    shown = Text(f"{'≥ ' if at_least else ''}{mean:.{digits}f}", style="bold")
    if interval:
        low, high = interval
        shown.append(f" [{low:.{digits}f}, {high:.{digits}f}]", style="not bold dim")
    return shown
