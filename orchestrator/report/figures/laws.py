"""Figures of the laws of capacity, one for each axis along which a law could be fitted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.report.figures.canvas import (
    COLOURS,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.law import AXES, SIZES, Axis, Law, Series, laws
from orchestrator.report.tables import short_names
from tasks.wording import counted

CURVE_POINTS = 24


def law_figures(tables: ReportTables) -> list[CaptionedFigure]:
    """Capacity in tokens along each axis that has a law, with its points."""
    fitted = [series for series in laws(tables.searches, tables.samples, tables.models) if series.law is not None]
    by_axis: dict[Axis, list[Series]] = {
        axis: [one for one in fitted if (one.axis, one.unit) == (axis, "tokens")] for axis in AXES
    }
    return [_drawn(axis, series, colours_of(tables)) for axis, series in by_axis.items() if series]


def law_text(law: Law) -> str:
    """`29.1 x^0.83 [0.70, 0.95]`."""
    between = "" if law.interval is None else f" [{law.interval[0]:.2f}, {law.interval[1]:.2f}]"
    return f"{law.scale:.3g} x^{law.exponent:.2f}{between}"


def _drawn(axis: Axis, several: Sequence[Series], colours: Mapping[str, str]) -> CaptionedFigure:
    figure = blank_figure(AXES[axis], "capacity (tokens)")
    names = short_names(point.model for series in several for point in series.points)
    for number, series in enumerate(several):
        assert series.law is not None, "only series with a law are drawn"
        # Only along k does a line belong to one model, which has its colour in every figure.
        of_model = axis == "vectors"
        colour = colours[series.points[0].model] if of_model else COLOURS[number % len(COLOURS)]
        called = plain(series.of)
        places = np.geomspace(series.points[0].at, series.points[-1].at, CURVE_POINTS)
        figure.add_scatter(
            x=[float(place) for place in places],
            y=[round(series.law.at(float(place)), 3) for place in places],
            mode="lines",
            name=f"{called}: {law_text(series.law)}",
            line={"color": colour, "width": 1.4},
            hoverinfo="skip",
            showlegend=False,
        )
        for is_bound, kind in ((False, "means"), (True, "lower bounds")):
            points = [point for point in series.points if point.is_bound == is_bound]
            if points:
                symbol = SYMBOLS[number % len(SYMBOLS)] + ("-open" if is_bound else "")
                figure.add_scatter(
                    x=[point.at for point in points],
                    y=[round(point.mean, 3) for point in points],
                    mode="markers",
                    name=f"{called}: {kind}",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                    text=[f"{plain(names[point.model])}, {counted(point.num_texts, 'text')}" for point in points],
                    hovertemplate=f"{called}<br>%{{text}}<br>{'≥ ' if is_bound else ''}%{{y:.1f}} tokens at %{{x:,}}"
                    "<extra></extra>",
                    showlegend=False,
                )
        look = {"line": {"color": colour}, "marker": {"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]}}
        add_key(figure, {f"{series.of}: {law_text(series.law)}": look}, mode="lines+markers")
    figure.update_xaxes(type="log", **_ticks(axis, several))
    figure.update_yaxes(type="log", tickformat=",", dtick="D2")
    return CaptionedFigure(
        name=f"law-of-{axis.replace('_', '-')}",
        title=f"Capacity against {AXES[axis].partition(' (')[0]}",
        caption=_caption(axis, several),
        figure=figure,
    )


def _ticks(axis: Axis, several: Sequence[Series]) -> dict[str, Any]:
    """Numbers of vectors, widths and layers are few and whole: each has its tick."""
    places = sorted({point.at for series in several for point in series.points})
    return {"tickvals": places} if axis in ("vectors", "width", "layers") else {"dtick": "D2"}


def _caption(axis: Axis, several: Sequence[Series]) -> str:
    misfits = sorted(series.law.misfit for series in several if series.law is not None)
    off = f"{misfits[0]:.2f}" if len(misfits) == 1 else f"{misfits[0]:.2f} to {misfits[-1]:.2f}"
    over = "models, which differ in more than this axis" if axis in SIZES else "texts"
    num_points = sum(not point.is_bound for series in several for point in series.points)
    hollow = any(point.is_bound for series in several for point in series.points)
    return (
        "Points are means over texts; the line is the power law a x^b that fits their logarithms best. Its exponent "
        f"has a 95 % bootstrap interval over {over}. Points lie off the law by a factor of {off} (one standard "
        f"deviation)."
        f"{' Hollow points are lower bounds and not fitted.' if hollow else ''} n = {counted(num_points, 'point')}."
    )
