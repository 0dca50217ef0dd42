"""The figures of a report, one function each, from Arrow tables to plotly."""

from collections.abc import Callable
from random import Random

from orchestrator.report.canvas import (
    COLOURS,
    DASHES,
    NEUTRAL,
    SYMBOLS,
    CaptionedFigure,
    RunTables,
    add_key,
    blank_figure,
    colours_of,
    count_of,
    finished_rows,
    group_of,
    hover_text,
    kind_name,
    plain,
    symbols_of,
)
from orchestrator.report.figures_entropy import entropy_with_and_without
from orchestrator.report.figures_memories import (
    accuracy_along_lines,
    bits_ledger,
    cosines_of_memories,
    memories_in_two_dimensions,
)
from orchestrator.report.figures_scaling import (
    accuracy_over_positions,
    gain_against_theory,
    models_paired,
    scaling_with_vectors,
    steps_by_start,
    utilization_by_source,
)
from orchestrator.report.findings import group_name
from orchestrator.report.statistics import reach_by_length
from orchestrator.report.tables import (
    capacity_by_group,
    short_names,
    source_kind,
    steps_around_last_gain,
    success_by_length,
)


def figures(tables: RunTables) -> list[CaptionedFigure]:
    """Every figure for which there are rows, in the order of the page."""
    drawn = [draw(tables) for draw in FIGURES]
    return [figure for figure in drawn if figure is not None]


def capacity_per_model(tables: RunTables) -> CaptionedFigure | None:
    """Each search's capacity, and mean and interval of its group."""
    groups = [group for group in capacity_by_group(tables.searches) if group.tokens]
    if not groups:
        return None
    rows = finished_rows(tables)
    colours = colours_of(tables)
    figure = blank_figure("capacity (tokens)", "", height=130 + 64 * len(groups))
    jitter = Random(0)
    for position, group in enumerate(groups):
        members = [row for row in rows if group_of(row) == (group.model, group.source, group.num_vectors)]
        assert group.tokens is not None
        figure.add_scatter(
            x=[row.capacity_tokens for row in members],
            y=[position + 0.12 + jitter.uniform(0, 0.26) for _ in members],
            mode="markers",
            marker={"color": colours[group.model], "size": 7, "opacity": 0.65},
            text=[hover_text(row) for row in members],
            hovertemplate="%{text}<extra></extra>",
        )
        low, high = group.tokens.interval or (group.tokens.mean, group.tokens.mean)
        between = f"<br>95 % interval {low:.1f} to {high:.1f}" if group.tokens.interval else ""
        figure.add_scatter(
            x=[group.tokens.mean],
            y=[position - 0.12],
            error_x={"array": [high - group.tokens.mean], "arrayminus": [group.tokens.mean - low], "thickness": 2.5},
            mode="markers",
            marker={"color": colours[group.model], "size": 11, "symbol": "diamond"},
            hovertemplate=f"mean {group.tokens.mean:.1f} tokens{between}<br>n = {group.num_searches}<extra></extra>",
        )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(groups))),
        ticktext=["<br>".join(plain(part) for part in group_name(group, groups, "\n").split("\n")) for group in groups],
        range=[len(groups) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    return CaptionedFigure(
        name="capacity-per-model",
        title="How many tokens come back, per model",
        caption=(
            "A dot is a search, a diamond the mean of its group with its 95 % bootstrap interval over texts. "
            f"{count_of(rows)}."
        ),
        figure=figure,
    )


def bits_against_tokens(tables: RunTables) -> CaptionedFigure | None:
    """Capacity in bits against capacity in tokens."""
    rows = [row for row in finished_rows(tables) if row.capacity_bits is not None]
    if not rows:
        return None
    colours, symbols = colours_of(tables), symbols_of(rows)
    names = short_names(row.model for row in rows)
    figure = blank_figure("capacity (tokens)", "capacity (bits under the model)")
    rates: list[str] = []
    for model, num_vectors, kind in sorted({(row.model, row.num_vectors, source_kind(row.source)) for row in rows}):
        members = [row for row in rows if group_of(row) == (model, kind, num_vectors)]
        figure.add_scatter(
            x=[row.capacity_tokens for row in members],
            y=[row.capacity_bits for row in members],
            mode="markers",
            marker={"color": colours[model], "symbol": symbols[kind, num_vectors], "size": 8, "opacity": 0.75},
            text=[hover_text(row) for row in members],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    add_key(figure, {names[model]: {"marker": {"color": colours[model], "size": 9}} for model in sorted(names)})
    if len(symbols) > 1:
        kinds = {
            kind_name(pair, symbols): {"marker": {"symbol": symbol, "size": 8}} for pair, symbol in symbols.items()
        }
        add_key(figure, kinds)
    for model in sorted(names):
        tokens = sum(row.capacity_tokens or 0 for row in rows if row.model == model)
        if tokens:
            rate = sum(row.capacity_bits or 0 for row in rows if row.model == model) / tokens
            rates.append(f"{names[model]} {rate:.2f}")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    told = f" Mean bits a token: {', '.join(rates)}." if rates else ""
    return CaptionedFigure(
        name="bits-against-tokens",
        title="How many bits those tokens are worth",
        caption=f"A dot is a search: text that the model predicts well costs few bits a token.{told} {count_of(rows)}.",
        figure=figure,
    )


def success_against_length(tables: RunTables) -> CaptionedFigure | None:
    """Share of probes lossless at a length, and share of searches that reach it."""
    bins = success_by_length(tables.probes)
    reach = reach_by_length(tables.searches)
    if not bins:
        return None
    pairs = sorted({(one.model, one.num_vectors) for one in bins} | {(one.model, one.num_vectors) for one in reach})
    colours = colours_of(tables)
    names = short_names(model for model, _ in pairs)
    vectors = sorted({num_vectors for _, num_vectors in pairs})
    figure = blank_figure("length (tokens)", "share")
    for model, num_vectors in pairs:
        look = {"color": colours[model], "dash": DASHES[vectors.index(num_vectors) % len(DASHES)]}
        points = [point for point in reach if (point.model, point.num_vectors) == (model, num_vectors)]
        figure.add_scatter(
            x=[point.length for point in points],
            y=[point.share for point in points],
            mode="lines",
            showlegend=False,
            line={"shape": "hv", "width": 2, **look},
            hovertemplate="%{y:.0%} of searches reach %{x} tokens<extra></extra>",
        )
        mine = [one for one in bins if (one.model, one.num_vectors) == (model, num_vectors)]
        # Side by side within a bin, so that no interval hides another.
        place = (pairs.index((model, num_vectors)) + 1) / (len(pairs) + 1)
        figure.add_scatter(
            x=[round(one.shortest + place * (one.longest - one.shortest), 2) for one in mine],
            y=[one.share for one in mine],
            error_y={
                "array": [one.interval[1] - one.share for one in mine],
                "arrayminus": [one.share - one.interval[0] for one in mine],
                "thickness": 1.2,
                "width": 3,
            },
            mode="markers",
            showlegend=False,
            marker={"color": colours[model], "size": 7, "symbol": SYMBOLS[vectors.index(num_vectors) % len(SYMBOLS)]},
            text=[f"{one.shortest} to {one.longest} tokens<br>{one.num_probes} probes" for one in mine],
            hovertemplate="%{text}<br>%{y:.0%} lossless<extra></extra>",
        )
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    if len(vectors) > 1:
        dashes = {f"k = {k}": {"line": {"dash": DASHES[n % len(DASHES)]}} for n, k in enumerate(vectors)}
        add_key(figure, dashes, mode="lines")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    spoken = sum(outcome != "failed" for outcome in tables.probes["outcome"].to_pylist())
    return CaptionedFigure(
        name="success-against-length",
        title="How success falls with length",
        caption=(
            "Line: share of searches whose capacity is at least this length (Kaplan-Meier where the text ended first). "
            "Points: of the probes that tried a length, the share lossless, with 95 % Wilson interval; lengths beyond "
            f"the one a probe gave up on do not count. n = {spoken:,} probes."
        ),
        figure=figure,
    )


def steps_before_and_after(tables: RunTables) -> CaptionedFigure | None:
    """Optimizer steps of each search before and after its last gain."""
    splits = sorted(steps_around_last_gain(tables.probes), key=lambda split: split.before + split.after)
    if not splits:
        return None
    sources = dict(zip(*(tables.searches[name].to_pylist() for name in ("search_id", "source")), strict=True))
    labels = [plain(sources.get(split.search_id, split.search_id)) for split in splits]
    figure = blank_figure("searches, by their row-steps", "row-steps (optimizer steps)")
    parts = (
        ("until the last gain", [split.before for split in splits], COLOURS[0]),
        ("after it, in vain", [split.after for split in splits], NEUTRAL),
    )
    for name, values, colour in parts:
        figure.add_bar(
            x=list(range(1, len(splits) + 1)),
            y=values,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            text=labels,
            textposition="none",
            hovertemplate=f"%{{y:,}} row-steps {name}<br>%{{text}}<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(showgrid=False, dtick=None if len(splits) > 12 else 1)
    total = sum(split.before + split.after for split in splits)
    vain = sum(split.after for split in splits) / (total or 1)
    return CaptionedFigure(
        name="steps-before-and-after",
        title="Where the row-steps went",
        caption=(
            f"A bar is a search: {100 * vain:.0f} % of all row-steps came after the last gain and bought only the "
            f"knowledge that no more fits. On average {total / len(splits):,.0f} row-steps a search. "
            f"n = {len(splits):,} searches."
        ),
        figure=figure,
    )


FIGURES: tuple[Callable[[RunTables], CaptionedFigure | None], ...] = (
    capacity_per_model,
    bits_against_tokens,
    success_against_length,
    entropy_with_and_without,
    scaling_with_vectors,
    gain_against_theory,
    utilization_by_source,
    models_paired,
    accuracy_over_positions,
    steps_before_and_after,
    steps_by_start,
    bits_ledger,
    cosines_of_memories,
    memories_in_two_dimensions,
    accuracy_along_lines,
)
"""Those of the page, in its order; each gives None where there is nothing to draw."""
