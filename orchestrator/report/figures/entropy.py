"""The figure of cross-entropies: how much of its text's each memory removes, and lines that summarize it."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import log
from random import Random
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from orchestrator.report.figures.canvas import (
    DASHES,
    LENGTHS,
    NEUTRAL,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.tables import short_names
from tasks.wording import counted

MOST_DOTS = 4000
"""Most probes drawn: with more, a browser takes seconds, and dots hide each other."""

Rows = Sequence[Mapping[str, Any]]


def entropy_with_and_without_memory(tables: ReportTables) -> CaptionedFigure | None:
    """Cross-entropy of each probe's text with memory against the one without memory."""
    columns = [
        "model",
        "source",
        "num_vectors",
        "outcome",
        "measured_length",
        "nats_without_memory",
        "nats_with_memory",
    ]
    rows = [
        row
        for row in tables.probes.select(columns).to_pylist()
        if row["outcome"] != "failed" and row["nats_without_memory"] is not None and row["nats_with_memory"] is not None
    ]
    if not rows:
        return None
    figure = blank_figure("without memory (bits)", "with memory (bits)")
    names = short_names(row["model"] for row in rows)
    _draw_probes(figure, rows, names)
    remarks = _draw_lines(figure, rows, names, colours_of(tables))
    if len(rows) > MOST_DOTS:
        remarks += f" {MOST_DOTS:,} probes are drawn, chosen at random."
    removed = 1 - sum(row["nats_with_memory"] for row in rows) / (sum(row["nats_without_memory"] for row in rows) or 1)
    return CaptionedFigure(
        name="entropy-with-and-without-memory",
        title="How much of a text's cross-entropy the memory removes",
        caption=(
            "Each dot is a probe, over the tokens it was measured on (colour); open dots stayed lossy. Over all probes "
            f"the memory removes {100 * removed:.0f} % of the bits. Lossless texts keep some bits, because greedy "
            f"decoding only needs each token to be the likeliest.{remarks} n = {counted(len(rows), 'probe')}."
        ),
        figure=figure,
    )


def _draw_probes(figure: go.Figure, rows: Rows, names: Mapping[str, str]) -> None:
    shown = rows if len(rows) <= MOST_DOTS else Random(0).sample(rows, MOST_DOTS)
    for number, (model, outcome) in enumerate(product(sorted(names), ("lossless", "lossy"))):
        members = [row for row in shown if (row["model"], row["outcome"]) == (model, outcome)]
        symbol = SYMBOLS[number // 2 % len(SYMBOLS)] + ("" if outcome == "lossless" else "-open")
        figure.add_scatter(
            # Two decimals: all digits of 20,000 probes are half a megabyte.
            x=[round(row["nats_without_memory"] / log(2), 2) for row in members],
            y=[round(row["nats_with_memory"] / log(2), 2) for row in members],
            mode="markers",
            marker={
                "color": [row["measured_length"] for row in members],
                "coloraxis": "coloraxis",
                "symbol": symbol,
                "size": 8,
                "line": {"width": 0 if outcome == "lossless" else 1.5},
            },
            name=plain(f"{names[model]}: {outcome}"),
            text=[plain(f"{row['source']}, k = {row['num_vectors']}") for row in members],
            hovertemplate=(
                f"%{{text}}<br>%{{marker.color}} tokens, {outcome}<br>"
                "%{x:.1f} bits without memory<br>%{y:.1f} bits with memory<extra></extra>"
            ),
            showlegend=False,
        )
        # A legend entry cannot show a colour scale, so it has only the symbol.
        name = (f"{names[model]}: " if len(names) > 1 else "") + outcome
        add_key(figure, {name: {"marker": {"symbol": symbol, "size": 8}}})
    figure.update_layout(
        coloraxis={
            "colorscale": [list(stop) for stop in LENGTHS],
            "colorbar": {"title": {"text": "tokens"}, "thickness": 10, "outlinewidth": 0, "x": 1.01, "xpad": 4},
        }
    )


def _draw_lines(figure: go.Figure, rows: Rows, names: Mapping[str, str], colours: Mapping[str, str]) -> str:
    """Draw each model's mean gain, by k, and its lossless threshold; returns sentences for the caption."""
    longest = max(row["nats_without_memory"] for row in rows) / log(2)
    vectors = sorted({row["num_vectors"] for row in rows})
    gains: list[str] = []
    thresholds: list[str] = []
    _draw_line(figure, (0, longest), (0, longest), "no help (y = x)", {"color": NEUTRAL, "dash": "dot", "width": 1.5})
    for model in sorted(names):
        mine = [row for row in rows if row["model"] == model]
        for number, num_vectors in enumerate(vectors):
            gain = mean_gain([row for row in mine if row["num_vectors"] == num_vectors])
            if gain is None:
                continue
            which = names[model] + (f", k = {num_vectors}" if len(vectors) > 1 else "")
            gains.append(f"{which}: {gain:.0f}")
            if gain < longest:
                look = {"color": colours[model], "width": 1.5, "dash": DASHES[number % len(DASHES)]}
                _draw_line(figure, (gain, longest), (0, longest - gain), f"{which}: y = x - {gain:.0f} bits", look)
        threshold = lossless_threshold(mine)
        if threshold is not None:
            thresholds.append(f"{names[model]} {threshold:.0f}")
            name = f"{names[model]}: lossless below {threshold:.0f} bits"
            _draw_line(figure, (0, longest), (threshold, threshold), name, {"color": colours[model], "width": 1})
    drawn = {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}
    add_key(figure, drawn | {"no help (y = x)": {"line": {"dash": "dot"}}}, mode="lines")
    if gains and len(vectors) > 1:
        dashes = {f"k = {k}": {"line": {"dash": DASHES[n % len(DASHES)]}} for n, k in enumerate(vectors)}
        add_key(figure, dashes, mode="lines")
    remarks = ""
    if gains:
        remarks += (
            " Slanted lines, y = x - gain: bits that a full memory, one that stayed lossy, removes on average "
            f"({'; '.join(gains)})."
        )
    if thresholds:
        remarks += f" Level lines: bits with memory that best separate lossless from lossy ({'; '.join(thresholds)})."
    return remarks


def _draw_line(
    figure: go.Figure, x: tuple[float, float], y: tuple[float, float], name: str, look: Mapping[str, Any]
) -> None:
    figure.add_scatter(
        x=list(x), y=list(y), mode="lines", name=plain(name), line=look, hoverinfo="skip", showlegend=False
    )


def mean_gain(rows: Rows) -> float | None:
    """Mean bits that memories remove that stayed lossy, and so were full; None if there are none.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 3: information gain.
    """
    lossy = [
        (row["nats_without_memory"] - row["nats_with_memory"]) / log(2) for row in rows if row["outcome"] == "lossy"
    ]
    return fmean(lossy) if lossy else None


def lossless_threshold(rows: Rows) -> float | None:
    """The threshold, in bits with memory, with fewest probes on the wrong side; None unless both outcomes occur."""
    ordered = sorted((row["nats_with_memory"] / log(2), row["outcome"] == "lossless") for row in rows)
    wrong = sum(lossless for _, lossless in ordered)
    if wrong in (0, len(ordered)):
        return None
    best, found = wrong, ordered[0][0]
    for bits, lossless in ordered:
        wrong += -1 if lossless else 1
        if wrong < best:
            best, found = wrong, bits
    return found
