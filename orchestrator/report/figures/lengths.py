"""Figures of grids of lengths, as the first paper has them: accuracy against length, and decoding capacity by model."""

from statistics import fmean

from orchestrator.report.figures.canvas import (
    COLOURS,
    DASHES,
    NEUTRAL,
    PERCENT_TICKS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.intervals import bootstrap_mean
from orchestrator.report.published_measures import THRESHOLD, accuracies_by_length, decoding_capacities
from orchestrator.report.tables import Group, short_names
from tasks.wording import counted


def accuracy_against_length(tables: ReportTables) -> CaptionedFigure | None:
    """Mean accuracy over texts at each length of a grid: a panel for each kind of source.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), its notebook of length and accuracy.
    """
    found = {
        group: lengths
        for group, lengths in accuracies_by_length(tables.probes, tables.searches).items()
        if len(lengths) > 1
    }
    if not found:
        return None
    kinds = sorted({kind for _, kind, _ in found})
    vectors = sorted({num_vectors for _, _, num_vectors in found})
    colours, names = colours_of(tables), short_names(model for model, _, _ in found)
    figure = blank_figure("length (tokens)", "accuracy", panels=kinds)
    longest = max(max(lengths) for lengths in found.values())
    for (model, kind, num_vectors), lengths in found.items():
        means = [fmean(accuracy for _, accuracy in pairs) for pairs in lengths.values()]
        intervals = [
            bootstrap_mean([accuracy for _, accuracy in pairs], [text for text, _ in pairs]) or (mean, mean)
            for pairs, mean in zip(lengths.values(), means, strict=True)
        ]
        called = plain(f"{names[model]}, {kind}, k = {num_vectors}")
        figure.add_scatter(
            x=list(lengths),
            y=[round(mean, 4) for mean in means],
            error_y={
                "array": [round(high - mean, 4) for mean, (_, high) in zip(means, intervals, strict=True)],
                "arrayminus": [round(mean - low, 4) for mean, (low, _) in zip(means, intervals, strict=True)],
                "thickness": 1,
                "width": 2,
            },
            mode="lines+markers",
            name=called,
            line={
                "color": colours[model],
                "dash": DASHES[vectors.index(num_vectors) % len(DASHES)],
                "width": 1.6,
            },
            marker={"size": 6},
            text=[counted(len({text for text, _ in pairs}), "text") for pairs in lengths.values()],
            hovertemplate=f"{called}<br>%{{y:.1%}} of %{{x}} tokens, %{{text}}<extra></extra>",
            showlegend=False,
            row=kinds.index(kind) + 1,
            col=1,
        )
    for number, kind in enumerate(kinds):
        figure.add_scatter(
            x=[0, longest],
            y=[THRESHOLD, THRESHOLD],
            mode="lines",
            name=plain(f"{kind}: accuracy {THRESHOLD}"),
            line={"color": NEUTRAL, "dash": "dot", "width": 1},
            hoverinfo="skip",
            showlegend=False,
            row=number + 1,
            col=1,
        )
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    if len(vectors) > 1:
        dashes = {f"k = {k}": {"line": {"dash": DASHES[n % len(DASHES)]}} for n, k in enumerate(vectors)}
        add_key(figure, dashes, mode="lines")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(**PERCENT_TICKS)
    probes = sum(len(pairs) for lengths in found.values() for pairs in lengths.values())
    return CaptionedFigure(
        name="accuracy-against-length",
        title="How accuracy falls with length",
        caption=(
            "Share of the scored tokens that are correct, teacher forced: the mean over texts at each length of the "
            f"grid, with 95 % bootstrap interval over texts. Dotted: {THRESHOLD}, above which a length counts in the "
            f"decoding capacity. n = {counted(probes, 'probe')}."
        ),
        figure=figure,
    )


def decoding_capacity_per_model(tables: ReportTables) -> CaptionedFigure | None:
    """The longest length of a grid that a model gives back, with the best model as a star.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), figure 1.
    """
    found = {
        group: capacity
        for group, capacity in decoding_capacities(tables.probes, tables.searches).items()
        if capacity is not None
    }
    if len({model for model, _, _ in found}) < 2:
        return None
    names = short_names(model for model, _, _ in found)
    ordered = sorted(found, key=lambda group: (group[1:], _parameters(tables).get(group[0], 0), group[0]))
    panels = sorted({group[1:] for group in ordered})
    figure = blank_figure(
        "", "decoding capacity (tokens)", panels=[f"{kind}, k = {num_vectors}" for kind, num_vectors in panels]
    )
    for number, panel in enumerate(panels):
        members: list[Group] = [group for group in ordered if group[1:] == panel]
        best = max(found[group] for group in members)
        figure.add_scatter(
            x=[plain(names[model]) for model, _, _ in members],
            y=[found[group] for group in members],
            mode="markers+text",
            name=plain(f"{panel[0]}, k = {panel[1]}"),
            text=[f"{found[group]:,}" for group in members],
            textposition="top center",
            marker={
                "symbol": ["star" if found[group] == best else "circle" for group in members],
                "size": [17 if found[group] == best else 10 for group in members],
                "color": [COLOURS[4] if found[group] == best else COLOURS[0] for group in members],
            },
            cliponaxis=False,
            hovertemplate="%{x}: %{y:,} tokens<extra></extra>",
            showlegend=False,
            row=number + 1,
            col=1,
        )
    figure.update_yaxes(rangemode="tozero")
    return CaptionedFigure(
        name="decoding-capacity-per-model",
        title="The longest text that a model gives back",
        caption=(
            f"The longest length of the grid at which the mean accuracy over texts is at least {THRESHOLD} (for random "
            "words: at which a single text's is), from the smallest model to the largest where their sizes are known. "
            f"Star: the most. n = {counted(len(found), 'group')} of model, source and k."
        ),
        figure=figure,
    )


def _parameters(tables: ReportTables) -> dict[str, int]:
    columns = (tables.models[name].to_pylist() for name in ("model", "num_parameters"))
    return dict(zip(*columns, strict=True))
