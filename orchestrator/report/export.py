"""The tables of a report for use in a paper, as values, Markdown and LaTeX.

Pure functions. Knows nothing of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.comparison import compare
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.papers import PUBLISHED_SETS
from orchestrator.report.published_measures import decoding_capacities
from orchestrator.report.statistics import paired, starts_by_group, survival_by_group
from orchestrator.report.tables import GAINS, Spread, capacity_by_group

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}
"""Characters that LaTeX would read as commands, and how to write them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A table for a reader."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def exported_tables(tables: ReportTables) -> dict[str, Exported]:
    """Tables by name: capacity by group, pairs of models, the bits ledger, comparisons with published figures."""
    found = {"capacity": _capacity(tables), "pairs": _pairs(tables), "bits": _bits(tables)}
    for paper in PUBLISHED_SETS:
        columns = ("model", "source", "k", "measure", "unit", "measured", "measured sd", "published", "published sd")
        rows = tuple(
            (
                *(line.model, line.source, line.num_vectors, line.measure, line.unit),
                *(line.measured, line.measured_sd, line.published, line.published_sd),
            )
            for line in compare(tables.probes, tables.searches, paper)
        )
        found[f"beside_{paper}"] = Exported(caption="Measured and published values.", columns=columns, rows=rows)
    return {name: table for name, table in found.items() if table.rows}


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
    return Exported(caption=caption, columns=columns, rows=tuple(rows))


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
        caption="Differences on the same texts, in tokens, with 95 % intervals.", columns=columns, rows=rows
    )


def _bits(tables: ReportTables) -> Exported:
    columns = tuple(tables.bits.column_names)
    rows = tuple(tuple(row[name] for name in columns) for row in tables.bits.to_pylist())
    return Exported(caption="The bits ledger, one line per search.", columns=columns, rows=rows)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:,.1f}"
        if isinstance(value, float)
        else str(value)
    )


def markdown(table: Exported) -> str:
    """The table as GitHub's Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rows = [line([_shown(value) for value in row]) for row in table.rows]
    return "\n".join([line(table.columns), line(["---"] * len(table.columns)), *rows, "", table.caption, ""])


def latex(table: Exported) -> str:
    """The table as LaTeX that needs the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(LATEX.get(c, c) for c in cell).replace("\n", " ") for cell in cells) + r" \\"

    numbers = [
        "r" if all(isinstance(row[i], int | float | None) for row in table.rows) else "l"
        for i in range(len(table.columns))
    ]
    rows = [line([_shown(value) for value in row]) for row in table.rows]
    caption = "".join(LATEX.get(c, c) for c in table.caption)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{''.join(numbers)}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
