"""Figures of the frontier: what a memory holds by what it cost, in optimizer steps and in trained tokens."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from orchestrator.report.comparison import published_steps
from orchestrator.report.figures.canvas import (
    COLOURS,
    PANEL_TITLE_PIXELS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.frontier import FrontierLine, FrontierPoint, Measure, Proof, Unit, frontier, group_names
from orchestrator.report.tables import Group
from tasks.wording import counted

UNIT_WORDS: dict[Unit, str] = {"steps": "optimizer steps", "trained_tokens": "trained tokens"}
PANELS: dict[Measure, str] = {
    "tokens": "capacity (tokens)",
    "bits": "capacity (bits)",
    "bits_per_dimension": "bits per dimension",
}
DIGITS: dict[Measure, int] = {"tokens": 2, "bits": 2, "bits_per_dimension": 4}
"""Decimals of a mean that the page keeps."""
PROOF_DASHES: dict[Proof, str] = {"certified": "solid", "reached": "dot"}
PANELS_PIXELS = 560
"""Height of three panels: low enough that the figures of both costs stand side by side on a wide page."""
BAND_OPACITY, BOUND_OPACITY = 0.13, 0.55


def frontier_by_steps(tables: ReportTables) -> CaptionedFigure | None:
    """What searches held after so many optimizer steps."""
    return _drawn(tables, "steps")


def frontier_by_trained_tokens(tables: ReportTables) -> CaptionedFigure | None:
    """What searches held after so many trained tokens."""
    return _drawn(tables, "trained_tokens")


def _drawn(tables: ReportTables, unit: Unit) -> CaptionedFigure | None:
    lines = frontier(tables.probes, tables.searches, unit)
    if not lines:
        return None
    groups = sorted({line.group for line in lines})
    names = group_names(groups)
    panels: list[Measure] = [measure for measure in PANELS if any(line.measure == measure for line in lines)]
    figure = blank_figure(f"{UNIT_WORDS[unit]} of a text", "", panels=[PANELS[measure] for measure in panels])
    if len(panels) > 1:
        figure.update_layout(height=PANELS_PIXELS, meta=PANELS_PIXELS, legend_y=1 + PANEL_TITLE_PIXELS / PANELS_PIXELS)
    looks = _looks(groups, tables)
    for line in lines:
        _draw(figure, line, names[line.group], looks[line.group], unit, row=panels.index(line.measure) + 1)
    points = _draw_published(figure, tables) if unit == "steps" else 0
    add_key(figure, {names[group]: {"line": {"color": looks[group]}} for group in groups}, mode="lines")
    proofs: set[Proof] = {line.proof for line in lines}
    dashes = {f"{proof} tokens": {"line": {"dash": dash}} for proof, dash in PROOF_DASHES.items() if proof in proofs}
    add_key(figure, dashes, mode="lines")
    figure.update_xaxes(type="log", dtick="D2")
    figure.update_yaxes(rangemode="tozero")
    tokens = [line for line in lines if line.measure == "tokens" and line.is_claim]
    return CaptionedFigure(
        name=f"frontier-by-{unit.replace('_', '-')}",
        title=f"What {UNIT_WORDS[unit]} buy",
        caption=_caption(tokens, unit, proofs, points),
        figure=figure,
    )


def _looks(groups: Sequence[Group], tables: ReportTables) -> dict[Group, str]:
    """The colour of each group: that of its model, if each model has but one group."""
    if len({model for model, _, _ in groups}) == len(groups):
        colours = colours_of(tables)
        return {group: colours[group[0]] for group in groups}
    return {group: COLOURS[number % len(COLOURS)] for number, group in enumerate(groups)}


def _draw(figure: go.Figure, line: FrontierLine, name: str, colour: str, unit: Unit, *, row: int) -> None:
    """Draw the line, pale from where some texts are censored, over the band of its interval if it has one."""
    called = f"{plain(name)}, {line.measure.replace('_', ' ')} {line.proof}"
    digits = DIGITS[line.measure]
    look = {"color": colour, "dash": PROOF_DASHES[line.proof], "shape": "hv", "width": 1.8}
    if line.is_claim:
        _draw_band(figure, line, called, colour, row=row)
    for is_bound, points in _parts(line.points):
        about = [f"{counted(point.num_censored, 'search')} of {line.num_searches} at least" for point in points]
        figure.add_scatter(
            x=[point.cost for point in points],
            y=[round(point.mean, digits) for point in points],
            # A line of one point shows nothing.
            mode="lines" if len(points) > 1 else "markers",
            name=f"{called}, lower bound" if is_bound else called,
            line=look,
            marker={"color": colour, "size": 6},
            opacity=BOUND_OPACITY if is_bound else 1,
            text=about if is_bound else None,
            hovertemplate=f"{called}<br>{'≥ ' if is_bound else ''}%{{y:,}} after %{{x:,}} {UNIT_WORDS[unit]}"
            f"{'<br>%{text}' if is_bound else ''}<extra></extra>",
            showlegend=False,
            row=row,
            col=1,
        )


def _parts(points: Sequence[FrontierPoint]) -> list[tuple[bool, list[FrontierPoint]]]:
    """The points before any search is censored, and those from there on, which begin with the last one before."""
    parts = [(is_bound, list(part)) for is_bound, part in groupby(points, key=lambda point: point.num_censored > 0)]
    joined = [(parts[0][0], parts[0][1])]
    for is_bound, part in parts[1:]:
        joined.append((is_bound, [joined[-1][1][-1], *part]))
    return joined


def _draw_band(figure: go.Figure, line: FrontierLine, called: str, colour: str, *, row: int) -> None:
    bounded = [(point.cost, point.interval) for point in line.points if point.interval is not None]
    if not bounded:
        return
    digits = DIGITS[line.measure]
    for end, name in ((0, "low"), (1, "high")):
        figure.add_scatter(
            x=[cost for cost, _ in bounded],
            y=[round(interval[end], digits) for _, interval in bounded],
            mode="lines",
            name=f"{called}, 95 % {name}",
            line={"color": colour, "width": 0, "shape": "hv"},
            fill="tonexty" if end else None,
            fillcolor=f"rgba{(*bytes.fromhex(colour[1:]), BAND_OPACITY)}",
            hoverinfo="skip",
            showlegend=False,
            row=row,
            col=1,
        )


def _draw_published(figure: go.Figure, tables: ReportTables) -> int:
    """Draw the published points of the run's models and task beside the tokens reached; returns how many."""
    points = published_steps(tables.searches)
    marker: dict[str, Any] = {"symbol": "diamond-open", "size": 9}
    colours = colours_of(tables)
    for point in points:
        called = plain(f"published: {point.name}, {point.method}, {point.steps:,.0f} steps")
        figure.add_scatter(
            x=[point.steps],
            y=[point.tokens],
            mode="markers",
            name=called,
            marker={**marker, "color": colours[point.model]},
            text=[plain(point.note)],
            hovertemplate=f"{called}<br>%{{y:,}} tokens after %{{x:,}} optimizer steps<br>%{{text}}<extra></extra>",
            showlegend=False,
            row=1,
            col=1,
        )
    if points:
        add_key(figure, {"published, teacher forced": {"marker": marker}})
    return len(points)


def _caption(tokens: Sequence[FrontierLine], unit: Unit, proofs: set[Proof], num_published: int) -> str:
    searches = sum(line.num_searches for line in tokens)
    parts = [
        f"Mean of what the texts of a group hold after so many {UNIT_WORDS[unit]}. The starts of a text count one "
        "after the other; it keeps what it holds once its search has ended.",
        "Pale: a lower bound, because some texts had ended or their searches had not."
        if any(point.num_censored for line in tokens for point in line.points)
        else "",
        "Reached: correct teacher forced. Certified: given back when the memory kept at 50, 100, 200, .. optimizer "
        "steps was decoded."
        if "certified" in proofs
        else "Reached: the criterion was met; no certificate is claimed.",
        "Bands: 95 % bootstrap intervals over texts." if any(line.num_texts > 1 for line in tokens) else "",
        f"Diamonds: {counted(num_published, 'published point')}, means over the paper's texts."
        if num_published
        else "",
        f"n = {counted(searches, 'search')}.",
    ]
    return " ".join(part for part in parts if part)
