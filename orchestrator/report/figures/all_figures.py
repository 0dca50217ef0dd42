"""The figures of a report, one function each, from Arrow tables to plotly."""

from collections.abc import Callable
from random import Random

from orchestrator.report.figures.canvas import (
    CaptionedFigure,
    ReportTables,
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
from orchestrator.report.figures.entropy import entropy_with_and_without_memory
from orchestrator.report.figures.frontier import frontier_by_steps, frontier_by_trained_tokens
from orchestrator.report.figures.laws import law_figures
from orchestrator.report.figures.lengths import accuracy_against_length, decoding_capacity_per_model
from orchestrator.report.figures.memories import (
    accuracy_along_lines,
    bits_ledger,
    cosines_of_memories,
    memories_in_two_dimensions,
)
from orchestrator.report.figures.portability import share_that_decodes_elsewhere
from orchestrator.report.figures.probes import (
    accuracy_over_positions,
    steps_before_and_after,
    steps_by_start,
    success_against_length,
)
from orchestrator.report.figures.robustness import bits_that_survive, bound_by_robustness
from orchestrator.report.figures.scaling import gain_against_theory, models_paired, utilization_by_source
from orchestrator.report.figures.vectors import scaling_with_vectors
from orchestrator.report.findings import group_name
from orchestrator.report.tables import (
    capacity_by_group,
    short_names,
    source_kind,
)


def figures(tables: ReportTables) -> list[CaptionedFigure]:
    """Every figure for which there are rows, in the order of the page."""
    drawn = [draw(tables) for draw in FIGURES]
    return [*(figure for figure in drawn if figure is not None), *law_figures(tables)]


def capacity_per_model(tables: ReportTables) -> CaptionedFigure | None:
    """Each search's capacity, and mean and interval of its group."""
    groups = [group for group in capacity_by_group(tables.searches) if group.tokens]
    if not groups:
        return None
    rows = finished_rows(tables)
    colours = colours_of(tables)
    means = sorted(group.tokens.mean for group in groups if group.tokens)
    largest = means[-1] if len(means) > 1 and means[-1] > means[-2] else None
    has_interval = any(group.tokens.interval for group in groups if group.tokens)
    figure = blank_figure("capacity (tokens)", "", height=130 + 64 * len(groups))
    jitter = Random(0)
    for position, group in enumerate(groups):
        called = plain(group_name(group, groups))
        members = [row for row in rows if group_of(row) == (group.model, group.source, group.num_vectors)]
        assert group.tokens is not None
        figure.add_scatter(
            x=[row.capacity_tokens for row in members],
            y=[position + 0.12 + jitter.uniform(0, 0.26) for _ in members],
            mode="markers",
            name=f"{called}: searches",
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
            mode="markers+text",
            name=f"{called}: mean",
            text=[f"{'≥ ' if group.num_censored else ''}{group.tokens.mean:,.1f}"],
            textposition="top center",
            textfont={"size": 12},
            cliponaxis=False,
            marker={"color": colours[group.model]}
            | ({"size": 17, "symbol": "star"} if group.tokens.mean == largest else {"size": 11, "symbol": "diamond"}),
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
            "Each dot is a search; each diamond is the mean of a group"
            f"{', with its 95 % bootstrap interval over texts' if has_interval else ''}"
            f"{'; a star is the largest' if largest is not None else ''}."
            f"{' ≥: some texts ended before their memory was full.' if any(g.num_censored for g in groups) else ''} "
            f"{count_of(rows)}."
        ),
        figure=figure,
    )


def bits_against_tokens(tables: ReportTables) -> CaptionedFigure | None:
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
            name=plain(f"{names[model]}, {kind}, k = {num_vectors}"),
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
    mean_rates = f" Mean bits a token: {', '.join(rates)}." if rates else ""
    return CaptionedFigure(
        name="bits-against-tokens",
        title="How many bits the tokens are worth",
        caption=(
            f"Each dot is a search. Text that the model predicts well costs few bits a token.{mean_rates} "
            f"{count_of(rows)}."
        ),
        figure=figure,
    )


FIGURES: tuple[Callable[[ReportTables], CaptionedFigure | None], ...] = (
    capacity_per_model,
    decoding_capacity_per_model,
    frontier_by_steps,
    frontier_by_trained_tokens,
    bits_against_tokens,
    success_against_length,
    accuracy_against_length,
    entropy_with_and_without_memory,
    scaling_with_vectors,
    gain_against_theory,
    utilization_by_source,
    models_paired,
    accuracy_over_positions,
    steps_before_and_after,
    steps_by_start,
    bits_ledger,
    bits_that_survive,
    bound_by_robustness,
    share_that_decodes_elsewhere,
    cosines_of_memories,
    memories_in_two_dimensions,
    accuracy_along_lines,
)
"""The figures of the page, in its order; each function returns None where there is nothing to draw. The laws follow
them, one figure for each axis that has one."""
