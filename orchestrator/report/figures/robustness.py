"""Figures of what memories survive: fewer bits, and turns in random directions; and what the turns bound."""

from collections import defaultdict
from itertools import groupby
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from orchestrator.analysis.noise import bound_bits
from orchestrator.report.figures.canvas import (
    DASHES,
    NEUTRAL,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.robustness import Survived, Turned, survived, turned_memories
from orchestrator.report.tables import short_names
from tasks.wording import counted

VALUE_BITS = (2, 3, 4, 6, 8, 16, 32)
BIT_TICKS = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
CURVE_POINTS = 60
FURTHER = 1.5
"""The figure of the bound reaches so many times further than the most robust memory."""
KINDS = ("floats", "one scale a vector", "one scale a block")


def bits_that_survive(tables: ReportTables) -> CaptionedFigure | None:
    """Share of the proven bits that each format keeps, and bits kept for each bit stored."""
    if not tables.quantized.num_rows:
        return None
    found = survived(tables)
    colours, names = colours_of(tables), short_names(one.model for one in found)
    figure = blank_figure(
        "bits stored for each value, scales included", "", panels=("share of the proven bits", "bits for a stored bit")
    )
    for (model, kind), group in groupby(sorted(found, key=_by_line), key=lambda one: (one.model, _kind(one))):
        line = list(group)
        for panel, values in enumerate(([one.share for one in line], [one.bits_per_stored_bit for one in line]), 1):
            figure.add_scatter(
                x=[round(one.value_bits, 3) for one in line],
                y=[round(value, 4) for value in values],
                mode="markers" if kind == KINDS[0] else "lines+markers",
                name=plain(f"{names[model]}, {kind}: {('share', 'bits for a stored bit')[panel - 1]}"),
                line={"color": colours[model], "dash": DASHES[KINDS.index(kind) - 1], "width": 1.5},
                marker={"color": colours[model], "symbol": SYMBOLS[KINDS.index(kind)], "size": 8},
                text=[_survival(one) for one in line],
                hovertemplate=f"{plain(names[model])}, %{{text}}<extra></extra>",
                showlegend=False,
                row=panel,
                col=1,
            )
    if len(names) > 1:
        add_key(figure, {names[model]: {"marker": {"color": colours[model], "size": 9}} for model in sorted(names)})
    add_key(figure, {kind: {"marker": {"symbol": SYMBOLS[i], "size": 8}} for i, kind in enumerate(KINDS)})
    figure.update_xaxes(type="log", tickvals=VALUE_BITS)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", row=1)
    memories = {one.model: one.num_memories for one in found}
    return CaptionedFigure(
        name="bits-that-survive",
        title="How few bits a memory can be stored in",
        caption=(
            "Each memory is rounded to floats or to whole numbers and decoded again. A memory survives if its whole "
            "text still meets the run's criterion; its bits are those that it proved, under the model. Above, the "
            f"share that survives; below, the same for each bit stored. {_cheapest(found, names)} "
            f"n = {counted(sum(memories.values()), 'memory')}."
        ),
        figure=figure,
    )


def _kind(one: Survived) -> str:
    return KINDS[0] if one.turn_degrees is None else KINDS[1] if one.block is None else KINDS[2]


def _by_line(one: Survived) -> tuple[str, int, float]:
    return one.model, KINDS.index(_kind(one)), one.value_bits


def _survival(one: Survived) -> str:
    turn = "" if one.turn_degrees is None else f"<br>turns a vector by {one.turn_degrees:.2f}°"
    return (
        f"{one.format}<br>{one.num_lossless:,} of {counted(one.num_memories, 'memory')}<br>{one.share:.1%} of the "
        f"proven bits<br>{one.bits_per_stored_bit:.3f} bits for a stored bit{turn}"
    )


def _cheapest(found: list[Survived], names: dict[str, str]) -> str:
    """The format that keeps most bits for each bit stored, of each model."""
    parts: list[str] = []
    for model in sorted(names):
        best = max((one for one in found if one.model == model), key=lambda one: one.bits_per_stored_bit)
        part = f"{best.format} ({best.bits_per_stored_bit:.2f}, {best.share:.0%} survive)"
        parts.append(f"{names[model]} {part}" if len(names) > 1 else part)
    return f"Most bits for a stored bit: {', '.join(parts)}."


def bound_by_robustness(tables: ReportTables) -> CaptionedFigure | None:
    """Proven bits of each memory against the angle by which it can be turned, and the most bits at that angle."""
    every = turned_memories(tables)
    memories = [one for one in every if one.bound_bits is not None]
    if not memories:
        return None
    colours, names = colours_of(tables), short_names(one.model for one in memories)
    figure = blank_figure("angle by which every vector can be turned (degrees)", "bits")
    groups: dict[tuple[str, int, int], list[Turned]] = defaultdict(list)
    for one in memories:
        groups[one.model, one.num_vectors, one.width].append(one)
    vectors = sorted({num_vectors for _, num_vectors, _ in groups})
    for (model, num_vectors, width), group in sorted(groups.items()):
        number = vectors.index(num_vectors)
        look = {"color": colours[model], "dash": DASHES[number % len(DASHES)]}
        called, symbol = f"{names[model]}, k = {num_vectors}", SYMBOLS[number % len(SYMBOLS)]
        _draw_group(figure, group, called, num_vectors, width, look, symbol)
    formats = survived(tables) if tables.quantized.num_rows else []
    _draw_formats(figure, formats, within=FURTHER * max(one.angle for one in memories))
    if len(names) > 1:
        add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    looks = {f"bound, k = {k}": {"line": {"dash": DASHES[i % len(DASHES)]}} for i, k in enumerate(vectors)}
    add_key(figure, looks, mode="lines")
    for i, k in enumerate(vectors):
        of_k = f", k = {k}" if len(vectors) > 1 else ""
        add_key(figure, {f"proven by a memory{of_k}": {"marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8}}})
        hollow = f"{SYMBOLS[i % len(SYMBOLS)]}-open"
        add_key(figure, {f"bound by area{of_k}": {"marker": {"symbol": hollow, "size": 8}}})
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(type="log", tickvals=BIT_TICKS)
    proven, bound = fmean(one.proven_bits for one in memories), fmean(one.bound_bits or 0 for one in memories)
    area = fmean(one.area_bits or 0 for one in memories)
    return CaptionedFigure(
        name="bound-by-robustness",
        title="How robust a memory is, and what that bounds",
        caption=(
            "Filled: the bits that a memory proved, at the angle by which all its vectors can be turned in each of "
            f"{counted(max(len(one.angles) for one in memories), 'random direction')} while its whole text still comes "
            "out. Line: the most bits of memories that are all this robust, because so many caps of the angle fit on "
            "the sphere; hollow: the same by the mean area of the caps of all its directions, still too high, because "
            "so few directions miss the widest. Neither says anything about memories that are less robust. A proof "
            "above its bound: not every text of so many bits can be held as robustly. Dotted: the angle by which whole "
            "numbers of so many bits, with one scale a vector, turn a "
            f"memory. Means: {proven:,.0f} bits proven, {bound:,.0f} by the caps, {area:,.0f} by area. Not shown: "
            f"{len(every) - len(memories):,} that lost a token at the least angle. "
            f"n = {counted(len(memories), 'memory')}."
        ),
        figure=figure,
    )


def _draw_group(
    figure: go.Figure, group: list[Turned], called: str, num_vectors: int, width: int, look: dict[str, str], symbol: str
) -> None:
    """The dots of the memories of one model and k, and the curve of their bound."""
    angles = [one.angle for one in group]
    figure.add_scatter(
        x=[round(angle, 3) for angle in angles],
        y=[round(one.proven_bits, 1) for one in group],
        mode="markers",
        name=plain(f"{called}: proven"),
        marker={"color": look["color"], "size": 8, "opacity": 0.75, "symbol": symbol},
        text=[
            f"{counted(one.tokens, 'token')}, {one.proven_bits:,.0f} bits proven, {one.bound_bits or 0:,.0f} at most"
            f"<br>angles {min(one.angles):.1f}° to {max(one.angles):.1f}°"
            for one in group
        ],
        hovertemplate=f"{plain(called)}<br>%{{text}}<extra></extra>",
        showlegend=False,
    )
    figure.add_scatter(
        x=[round(angle, 3) for angle in angles],
        y=[round(one.area_bits or 0, 1) for one in group],
        mode="markers",
        name=plain(f"{called}: bound by area"),
        marker={"color": look["color"], "size": 8, "symbol": f"{symbol}-open"},
        hovertemplate=f"{plain(called)}: at most %{{y:,.0f}} bits by the area of all directions<extra></extra>",
        showlegend=False,
    )
    curve = np.geomspace(min(angles) / FURTHER, min(90.0, max(angles) * FURTHER), CURVE_POINTS).tolist()
    figure.add_scatter(
        x=[round(angle, 3) for angle in curve],
        y=[round(bound_bits(angle, num_vectors=num_vectors, width=width) or 0, 1) for angle in curve],
        mode="lines",
        name=plain(f"{called}: bound"),
        line=look,
        hovertemplate=f"{plain(called)}: at most %{{y:,.0f}} bits if the angle is %{{x:.1f}}°<extra></extra>",
        showlegend=False,
    )


def _draw_formats(figure: go.Figure, found: list[Survived], *, within: float) -> None:
    """A vertical line where each format with one scale a vector turns a memory, if that is `within` so many degrees."""
    turns: dict[str, list[float]] = defaultdict(list)
    for one in found:
        if one.turn_degrees is not None and one.block is None:
            turns[one.format].append(one.turn_degrees)
    for name, angles in turns.items():
        if fmean(angles) > within:
            continue
        figure.add_vline(
            x=fmean(angles),
            line={"color": NEUTRAL, "dash": "dot", "width": 1},
            annotation={"text": name, "textangle": -90},
        )
