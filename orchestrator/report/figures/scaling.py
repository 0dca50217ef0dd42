"""Figures of how capacity compares with theory, and how models differ on the same texts."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

from orchestrator.report.figures.canvas import (
    COLOURS,
    NEUTRAL,
    PERCENT_TICKS,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    faded,
    plain,
)
from orchestrator.report.intervals import bootstrap_mean
from orchestrator.report.statistics import paired
from orchestrator.report.tables import UNFINISHED, short_names, source_kind
from tasks.wording import counted

PLAIN_SIZE, SMALLEST, LARGEST = 9.0, 5.0, 26.0
"""Diameters of points in pixels: of all where sizes of models are unknown, of the smallest and of the largest model."""
OPACITIES = (1.0, 0.65, 0.4, 0.25)
"""Of bars, by number of vectors; a pattern is megabytes in a PDF."""


def _finished(tables: ReportTables) -> list[dict[str, Any]]:
    rows = tables.searches.to_pylist()
    return [row for row in rows if row["status"] not in UNFINISHED and row["capacity_tokens"] is not None]


def gain_against_theory(tables: ReportTables) -> CaptionedFigure | None:
    """Token gain of each search against the tokens that its memory's bits could spell."""
    rows = [row for row in _finished(tables) if row["theoretical_tokens"] and row["token_gain"] is not None]
    # A single point compares nothing.
    if len({(row["model"], source_kind(row["source"]), row["num_vectors"]) for row in rows}) < 2:
        return None
    colours, names = colours_of(tables), short_names(row["model"] for row in rows)
    kinds = sorted({source_kind(row["source"]) for row in rows})
    figure = blank_figure("theoretical capacity (tokens)", "token gain (tokens)")
    sizes = _sizes(tables, sorted(names))
    for model, (number, kind) in product(sorted(names), enumerate(kinds)):
        groups: dict[float, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if (row["model"], source_kind(row["source"])) == (model, kind):
                groups[row["theoretical_tokens"]].append(row)
        means, above, below = _means(list(dict(sorted(groups.items())).values()), "token_gain", digits=2)
        figure.add_scatter(
            x=[round(at, 1) for at in sorted(groups)],
            y=means,
            error_y={"array": above, "arrayminus": below, "thickness": 1.2},
            mode="markers",
            name=plain(f"{names[model]}: {kind}"),
            marker={"color": colours[model], "symbol": SYMBOLS[number % len(SYMBOLS)]}
            | {"size": sizes[model], "opacity": 0.85},
            hovertemplate=f"{plain(names[model])}, {plain(kind)}<br>%{{y:.1f}} of %{{x:.0f}} tokens<extra></extra>",
            showlegend=False,
        )
    add_key(figure, {names[model]: {"marker": {"color": colours[model], "size": 9}} for model in sorted(names)})
    if len(kinds) > 1:
        looks = {kind: {"marker": {"symbol": SYMBOLS[n % len(SYMBOLS)], "size": 8}} for n, kind in enumerate(kinds)}
        add_key(figure, looks)
    figure.update_xaxes(type="log")
    figure.update_yaxes(rangemode="tozero")
    area = " The area of a point is that of its model's parameters." if len(set(sizes.values())) > 1 else ""
    return CaptionedFigure(
        name="gain-against-theory",
        title="How far memories stay below what their bits could spell",
        caption=(
            "Theory: k d 16 / log2 V tokens, if every bit of a half-precision vector counted. Points are means with "
            f"95 % bootstrap intervals over texts.{area} n = {counted(len(rows), 'finished search')}."
        ),
        figure=figure,
    )


def _sizes(tables: ReportTables, models: Sequence[str]) -> dict[str, float]:
    """Diameter of each model's points, in pixels: areas are as the numbers of parameters, if several are all known.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), figure 5.
    """
    known = {row["model"]: row["num_parameters"] for row in tables.models.to_pylist() if row["num_parameters"]}
    if len(models) < 2 or not all(model in known for model in models):
        return dict.fromkeys(models, PLAIN_SIZE)
    largest = max(known[model] for model in models)
    return {model: max(SMALLEST, LARGEST * (known[model] / largest) ** 0.5) for model in models}


def _means(
    groups: Sequence[Sequence[dict[str, Any]]], column: str, *, digits: int
) -> tuple[list[float], list[float], list[float]]:
    """Mean of each group, and how far its 95 % bootstrap interval over texts reaches above and below."""
    means, above, below = [], [], []
    for rows in groups:
        values = [float(row[column]) for row in rows]
        mean = fmean(values)
        low, high = bootstrap_mean(values, [row["sample_id"] for row in rows]) or (mean, mean)
        means.append(round(mean, digits))
        above.append(round(high - mean, digits))
        below.append(round(mean - low, digits))
    return means, above, below


def utilization_by_source(tables: ReportTables) -> CaptionedFigure | None:
    """Token gain over theoretical capacity, by source and number of vectors."""
    rows = [row for row in _finished(tables) if row["utilization"] is not None]
    # A single bar compares nothing.
    if len({(row["model"], source_kind(row["source"]), row["num_vectors"]) for row in rows}) < 2:
        return None
    colours, names = colours_of(tables), short_names(row["model"] for row in rows)
    groups: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: row["source"]):
        groups[row["model"], row["num_vectors"]][source_kind(row["source"])].append(row)
    vectors = sorted({num_vectors for _, num_vectors in groups})
    figure = blank_figure("", "utilization")
    for model, num_vectors in sorted(groups):
        mine = groups[model, num_vectors]
        means, above, below = _means(list(mine.values()), "utilization", digits=4)
        label = plain(names[model] + (f", k = {num_vectors}" if len(vectors) > 1 else ""))
        figure.add_bar(
            x=[plain(kind) for kind in mine],
            y=means,
            name=label,
            marker={"color": colours[model], "opacity": OPACITIES[vectors.index(num_vectors) % len(OPACITIES)]},
            error_y={"array": above, "arrayminus": below, "thickness": 1.2, "color": NEUTRAL},
            hovertemplate=f"{label}, %{{x}}<br>%{{y:.1%}}<extra></extra>",
            showlegend=False,
        )
    looks = {names[model]: {"marker": {"color": colours[model], "symbol": "square", "size": 11}} for model in names}
    add_key(figure, looks)
    for number, num_vectors in enumerate(vectors if len(vectors) > 1 else []):
        # A legend does not show the opacity of a bar, but that of its colour.
        marker = {"color": faded(NEUTRAL, OPACITIES[number % len(OPACITIES)])}
        # With its own offset, this empty bar takes no place beside the others.
        figure.add_bar(x=[None], y=[None], name=f"k = {num_vectors}", offset=0, marker=marker)
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_yaxes(**PERCENT_TICKS, rangemode="tozero")
    return CaptionedFigure(
        name="utilization-by-source",
        title="How much of the theoretical capacity is used, by source",
        caption=(
            "Utilization is token gain over theoretical capacity: the mean over searches, with 95 % bootstrap interval "
            f"over texts. n = {counted(len(rows), 'finished search')}."
        ),
        figure=figure,
    )


def models_paired(tables: ReportTables) -> CaptionedFigure | None:
    """Differences of two models on the same texts."""
    pairs = paired(tables.searches, tables.samples)
    if not pairs:
        return None
    names = short_names(name for pair in pairs for name in (pair.first, pair.second))
    figure = blank_figure("difference (tokens)", "", height=120 + 62 * len(pairs))
    ends = [pair.interval or (pair.difference, pair.difference) for pair in pairs]
    figure.add_scatter(
        x=[round(pair.difference, 3) for pair in pairs],
        y=list(range(len(pairs))),
        error_x={
            "array": [round(high - pair.difference, 3) for pair, (_, high) in zip(pairs, ends, strict=True)],
            "arrayminus": [round(pair.difference - low, 3) for pair, (low, _) in zip(pairs, ends, strict=True)],
            "thickness": 2,
        },
        mode="markers",
        name="mean difference",
        marker={"color": COLOURS[0], "size": 10, "symbol": "diamond"},
        text=[
            f"{counted(pair.num_texts, 'text')}<br>the first model holds more of {pair.first_larger:.0%} of them<br>"
            f"{pair.difference_bits or 0:+.1f} bits"
            for pair in pairs
        ],
        hovertemplate="%{x:+.1f} tokens<br>%{text}<extra></extra>",
        showlegend=False,
    )
    figure.add_vline(x=0, line={"color": NEUTRAL, "dash": "dot", "width": 1})
    figure.update_yaxes(
        tickvals=list(range(len(pairs))),
        ticktext=[
            f"{plain(names[pair.first])}<br>minus {plain(names[pair.second])}<br>k = {pair.num_vectors}"
            for pair in pairs
        ],
        range=[len(pairs) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    return CaptionedFigure(
        name="models-paired",
        title="Which model holds more of the same texts",
        caption=(
            "Mean difference in capacity over the texts that both models were measured on, each in its own tokens, "
            "with 95 % bootstrap interval over texts. "
            f"n = {counted(sum(pair.num_texts for pair in pairs), 'pair')} of searches."
        ),
        figure=figure,
    )
