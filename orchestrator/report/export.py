"""The tables of a report for use in a paper, as values, Markdown and LaTeX.

Pure functions. Knows nothing of files.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median
from typing import Any

from orchestrator.report.comparison import compare
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.papers import PUBLISHED_SETS
from orchestrator.report.published_measures import decoding_capacities
from orchestrator.report.robustness import Turned, survived, turned_memories
from orchestrator.report.statistics import paired, starts_by_group, survival_by_group
from orchestrator.report.tables import GAINS, Spread, capacity_by_group, short_names

PLUS_MINUS, AT_LEAST = "±", "≥"
"""Signs in cells, which LaTeX has as mathematics."""
NUMERIC = re.compile(rf"({AT_LEAST} )?[-\d.,]+( {PLUS_MINUS} [\d.,]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A table for a reader."""

    label: str
    """What LaTeX refers to: \\ref{tab:label}."""
    caption: str
    """Words of ours, without names of models or texts."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def exported_tables(tables: ReportTables) -> dict[str, Exported]:
    """Tables by name: capacity, short and whole, pairs of models, the bits ledger, robustness, published figures."""
    found = {
        "paper": paper_table(tables),
        "capacity": _capacity(tables),
        "pairs": _pairs(tables),
        "bits": _bits(tables),
    }
    found |= {"quantized": quantized_table(tables), "noise": noise_table(tables)}
    for paper in PUBLISHED_SETS:
        columns = ("model", "source", "k", "measure", "unit", "measured", "measured sd", "published", "published sd")
        rows = tuple(
            (
                *(line.model, line.source, line.num_vectors, line.measure, line.unit),
                *(line.measured, line.measured_sd, line.published, line.published_sd),
            )
            for line in compare(tables.probes, tables.searches, paper)
        )
        found[f"beside_{paper}"] = Exported(
            label=f"beside-{paper}", caption="Measured and published values.", columns=columns, rows=rows
        )
    return {name: table for name, table in found.items() if table.rows}


def paper_table(tables: ReportTables) -> Exported:
    """The capacities in few enough columns for a column of a paper: means and standard deviations."""
    groups = capacity_by_group(tables.searches)
    names = short_names(group.model for group in groups)
    measures = (
        ("tokens", "tokens", 1),
        ("bits", "bits", 0),
        ("bits/dimension", "bits_per_dimension", 2),
        ("token gain", "token_gain", 1),
    )
    measures = [each for each in measures if any(getattr(group, each[1]) for group in groups)]
    rows = tuple(
        (
            *(names[group.model], group.source, group.num_vectors, group.num_texts),
            *(_mean_and_sd(getattr(group, name), digits, bool(group.num_censored)) for _, name, digits in measures),
        )
        for group in groups
        if group.tokens is not None
    )
    columns = ("model", "source", "k", "texts", *(title for title, _, _ in measures))
    caption = "Capacity by model, source and number of vectors k: mean ± standard deviation over searches."
    if any(group.num_censored for group in groups):
        caption += f" {AT_LEAST}: some texts ended before their memory was full."
    return Exported(label="capacity", caption=caption, columns=columns, rows=rows)


def _mean_and_sd(spread: Spread | None, digits: int, at_least: bool) -> str | None:
    if spread is None:
        return None
    sd = "" if spread.sd is None else f" {PLUS_MINUS} {spread.sd:,.{digits}f}"
    return f"{AT_LEAST + ' ' if at_least else ''}{spread.mean:,.{digits}f}{sd}"


def _capacity(tables: ReportTables) -> Exported:
    survival, starts = survival_by_group(tables.searches), starts_by_group(tables.probes)
    decoding = decoding_capacities(tables.probes, tables.searches)
    rows = []
    for group in capacity_by_group(tables.searches):
        key = (group.model, group.source, group.num_vectors)
        lasted, began = survival.get(key), starts.get(key)
        rows.append(
            (
                *(*key, group.num_searches, group.num_texts),
                *_spread(group.tokens),
                *(group.tokens.median if group.tokens else None, lasted.median if lasted else None),
                *(value for name in ("bits", "bits_per_dimension", *GAINS) for value in _spread(getattr(group, name))),
                *(decoding.get(key), group.num_censored, began.share if began else None),
                *(group.num_in_float32, group.num_exact_in_float32),
            )
        )
    columns = (
        *("model", "source", "k", "n", "texts", *_spread_columns("tokens"), "tokens median", "survival median"),
        *_spread_columns("bits"),
        *_spread_columns("bits per dimension"),
        *(column for name in GAINS for column in _spread_columns(name.replace("_", " "))),
        *("decoding capacity", "censored", "starts lossless", "decoded in float32", "exact in float32"),
    )
    caption = (
        "Capacity and gains by model, source and number of vectors: means with 95 % bootstrap intervals over texts."
    )
    return Exported(label="capacity-full", caption=caption, columns=columns, rows=tuple(rows))


def _spread_columns(name: str) -> tuple[str, ...]:
    return name, f"{name} low", f"{name} high", f"{name} sd"


def _spread(spread: Spread | None) -> tuple[float | None, ...]:
    if spread is None:
        return (None,) * 4
    return spread.mean, *(spread.interval or (None, None)), spread.sd


def _pairs(tables: ReportTables) -> Exported:
    rows = tuple(
        (
            *(pair.first, pair.second, pair.num_vectors, pair.num_texts, pair.difference),
            *(pair.interval or (None, None)),
            *(pair.difference_bits, pair.first_larger),
        )
        for pair in paired(tables.searches, tables.samples)
    )
    columns = ("first", "second", "k", "texts", "difference", "low", "high", "difference bits", "first larger")
    return Exported(
        label="pairs",
        caption="Differences on the same texts, in tokens, with 95 % intervals.",
        columns=columns,
        rows=rows,
    )


def _bits(tables: ReportTables) -> Exported:
    columns = tuple(tables.bits.column_names)
    rows = tuple(tuple(row[name] for name in columns) for row in tables.bits.to_pylist())
    return Exported(label="bits", caption="The bits ledger, one line per search.", columns=columns, rows=rows)


def quantized_table(tables: ReportTables) -> Exported:
    """What each format keeps of the memories of a model."""
    rows = tuple(
        (
            *(one.model, one.format, one.num_memories, one.num_lossless, one.value_bits, 100 * one.share),
            *(one.bits_per_stored_bit, one.turn_degrees),
        )
        for one in (survived(tables) if tables.quantized.num_rows else ())
    )
    columns = (
        *("model", "format", "memories", "survive", "bits a value", "% of the proven bits", "bits for a stored bit"),
        "turn (degrees)",
    )
    return Exported(label="quantized", caption="Memories in fewer bits, decoded again.", columns=columns, rows=rows)


def noise_table(tables: ReportTables) -> Exported:
    """How far the memories of a model and k can be turned, and what that bounds."""
    groups: dict[tuple[str, int], list[Turned]] = defaultdict(list)
    for one in turned_memories(tables):
        groups[one.model, one.num_vectors].append(one)
    rows = tuple(
        (
            *(model, num_vectors, len(group), fmean(one.proven_bits for one in group)),
            *(spread([one.angle for one in group]) for spread in (min, median, max)),
            *(_mean([one.bound_bits for one in group]), _mean([one.area_bits for one in group])),
            sum(one.proven_bits > (one.area_bits or inf) for one in group),
        )
        for (model, num_vectors), group in sorted(groups.items())
    )
    columns = (
        *("model", "k", "memories", "bits proven", "least angle", "median angle", "largest angle", "bits bound"),
        *("bound by area", "proven above that"),
    )
    caption = (
        "How far memories can be turned while their texts come out, in degrees, and the most bits of such memories."
    )
    return Exported(label="noise", caption=caption, columns=columns, rows=rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 10 else f"{value:,.1f}"
    return " ".join(str(value).split("\n"))


def _alignments(table: Exported) -> list[str]:
    """`right` for columns of numbers, `left` for words."""
    return [
        "right" if all(not shown or NUMERIC.fullmatch(shown) for shown in map(_shown, column)) else "left"
        for column in zip(*table.rows, strict=True)
    ]


def markdown(table: Exported) -> str:
    """The table as GitHub's Markdown."""
    from tabulate import tabulate

    rows = [[_shown(value).replace("|", r"\|") for value in row] for row in table.rows]
    heads = [column.replace("|", r"\|") for column in table.columns]
    body = tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=_alignments(table))
    return f"{body}\n\n{table.caption}\n"


def latex(table: Exported) -> str:
    """The table as LaTeX that needs the package booktabs."""
    # Takes a quarter of a second to import.
    import pandas as pd

    frame = pd.DataFrame([[_shown(value) for value in row] for row in table.rows], columns=list(table.columns))
    style = frame.style.hide(axis=0)
    style.format(escape="latex").format_index(escape="latex", axis=1)
    written = style.to_latex(
        hrules=True,
        position="t",
        position_float="centering",
        column_format="".join(alignment[0] for alignment in _alignments(table)),
        caption=table.caption.replace("%", r"\%"),
        label=f"tab:{table.label}",
    )
    return written.replace(PLUS_MINUS, r"$\pm$").replace(AT_LEAST, r"$\ge$")
