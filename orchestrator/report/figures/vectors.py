"""The figure of several vectors: how capacity and gains grow with their number."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import plotly.graph_objects as go

from orchestrator.report.figures.canvas import (
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    faded,
    place_of,
    plain,
)
from orchestrator.report.tables import UNFINISHED, short_names
from tasks.wording import counted

MEASURES = (
    ("capacity_tokens", "capacity (tokens)"),
    ("token_gain", "token gain (tokens)"),
    ("information_gain_bits", "information gain (bits)"),
)
"""Columns of searches, and what their panels are called."""

Groups = Mapping[int, Sequence[Mapping[str, Any]]]
"""The finished searches of a model by number of vectors."""


def scaling_with_vectors(tables: ReportTables) -> CaptionedFigure | None:
    """Capacity, token gain and information gain against k, each beside the ideal: k times as much.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), figure 4.
    """
    by_model: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in tables.searches.to_pylist():
        if row["status"] not in UNFINISHED and row["capacity_tokens"] is not None:
            by_model[row["model"]][row["num_vectors"]].append(row)
    several = {model: dict(sorted(groups.items())) for model, groups in sorted(by_model.items()) if len(groups) > 1}
    if not several:
        return None
    panels = [measure for _, measure in MEASURES]
    figure = blank_figure("vectors (k)", "", panels=panels, columns=len(MEASURES))
    colours, names = colours_of(tables), short_names(several)
    for number, (column, measure) in enumerate(MEASURES):
        for model, groups in several.items():
            called, place = f"{names[model]}: {measure.partition(' (')[0]}", place_of(number, len(MEASURES))
            _draw_measure(figure, groups, column, plain(called), colours[model], place)
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in several}, mode="lines")
    add_key(figure, {"ideal: k times as much": {"line": {"dash": "dash", "width": 1.2}}}, mode="lines")
    figure.update_xaxes(tickvals=sorted({k for groups in several.values() for k in groups}))
    figure.update_yaxes(rangemode="tozero")
    grown = sum(len(rows) for groups in several.values() for rows in groups.values())
    return CaptionedFigure(
        name="scaling-with-vectors",
        title="What more vectors buy",
        caption=(
            "Means over all finished searches of a model; band: one standard deviation to either side. Broken lines: "
            f"k times the mean at the fewest vectors. n = {counted(grown, 'finished search')}."
        ),
        figure=figure,
        wide=True,
    )


def _draw_measure(
    figure: go.Figure, groups: Groups, column: str, called: str, colour: str, place: Mapping[str, int]
) -> None:
    values = {k: [float(row[column]) for row in rows if row[column] is not None] for k, rows in groups.items()}
    values = {k: known for k, known in values.items() if known}
    if not values:
        return
    means = {k: fmean(known) for k, known in values.items()}
    sds = [stdev(known) if len(known) > 1 else 0.0 for known in values.values()]
    ends = [(mean - sd, mean + sd) for mean, sd in zip(means.values(), sds, strict=True)]
    for number, name in enumerate(("mean - sd", "mean + sd")):
        figure.add_scatter(
            x=list(means),
            y=[round(end[number], 3) for end in ends],
            mode="lines",
            name=f"{called}, {name}",
            line={"width": 0},
            # The upper end fills the band down to the lower one.
            fill=(None, "tonexty")[number],
            fillcolor=faded(colour),
            hoverinfo="skip",
            showlegend=False,
            **place,
        )
    figure.add_scatter(
        x=list(means),
        y=[round(mean, 3) for mean in means.values()],
        mode="lines+markers",
        name=called,
        line={"color": colour, "width": 1.8},
        marker={"size": 7},
        text=[f"k = {k}, mean {mean:,.1f}, sd {sd:,.1f}" for (k, mean), sd in zip(means.items(), sds, strict=True)],
        hovertemplate=f"{called}<br>%{{text}}<extra></extra>",
        showlegend=False,
        **place,
    )
    fewest = min(means)
    figure.add_scatter(
        x=list(means),
        y=[round(means[fewest] * k / fewest, 3) for k in means],
        mode="lines",
        name=f"{called}, ideal",
        line={"color": colour, "dash": "dash", "width": 1.2},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
        **place,
    )
