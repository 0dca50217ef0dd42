"""Figures of probes and their steps: which lengths they prove, where they err, what they cost."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from orchestrator.report.figures.canvas import (
    COLOURS,
    DASHES,
    NEUTRAL,
    PERCENT_TICKS,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    plain,
)
from orchestrator.report.success import ReachPoint, SuccessBin, reach_by_length, success_by_length
from orchestrator.report.tables import Group, short_names, source_kind, steps_around_last_gain
from orchestrator.store.probe_columns import unpacked_bits
from tasks.wording import counted

MOST_POSITION_BINS = 40
"""Points of a curve over positions."""
MOST_BARS = 150
"""Searches with a bar each; more are drawn as areas."""
FEW_PROBES = 3
"""Positions that fewer probes reach are not drawn: their mean would be that of one or two texts."""


def success_against_length(tables: ReportTables) -> CaptionedFigure | None:
    """Share of probes lossless at a length, and share of searches that reach it: a panel for each kind of source."""
    bins, reach = success_by_length(tables.probes, tables.searches), reach_by_length(tables.searches)
    if not bins:
        return None
    groups = sorted({one.group for one in bins} | {one.group for one in reach})
    kinds = sorted({kind for _, kind, _ in groups})
    colours, names = colours_of(tables), short_names(model for model, _, _ in groups)
    vectors = sorted({num_vectors for _, _, num_vectors in groups})
    figure = blank_figure("length (tokens)", "share", panels=kinds)
    for group in groups:
        model, kind, num_vectors = group
        number = vectors.index(num_vectors)
        look = {"color": colours[model], "dash": DASHES[number % len(DASHES)]}
        row, called = kinds.index(kind) + 1, plain(f"{names[model]}, {kind}, k = {num_vectors}")
        points = [point for point in reach if point.group == group]
        if points:
            figure.add_scatter(**_reach_line(points, called, look), row=row, col=1)
        # Side by side within a bin, so that no interval hides another.
        beside = [other for other in groups if other[1] == kind]
        place = (beside.index(group) + 1) / (len(beside) + 1)
        marker = {"color": colours[model], "size": 6, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        mine = [one for one in bins if one.group == group]
        if mine:
            figure.add_scatter(**_success_points(mine, called, place, marker), row=row, col=1)
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    if len(vectors) > 1:
        looks = {
            f"k = {k}": {"line": {"dash": DASHES[n % len(DASHES)]}, "marker": {"symbol": SYMBOLS[n % len(SYMBOLS)]}}
            for n, k in enumerate(vectors)
        }
        add_key(figure, looks, mode="lines+markers")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[-0.03, 1.05], **PERCENT_TICKS)
    num_probes = sum(outcome != "failed" for outcome in tables.probes["outcome"].to_pylist())
    return CaptionedFigure(
        name="success-against-length",
        title="How success falls with length",
        caption=(
            "Lines: share of searches whose capacity is at least this length (Kaplan-Meier where a text ended first). "
            "Points: share of the lengths tried near here that were lossless, with 95 % interval over texts. "
            "Every start counts, cold or warm, first or later, and each text once, however many starts it took. A "
            "start does not try lengths beyond the one it gave up on, nor lengths that its grid does not ask. "
            f"n = {counted(num_probes, 'probe')}, each one start."
        ),
        figure=figure,
    )


def _reach_line(points: Sequence[ReachPoint], called: str, look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "x": [point.length for point in points],
        "y": [round(point.share, 4) for point in points],
        "mode": "lines",
        "name": f"{called}: searches that reach it",
        "showlegend": False,
        "line": {"shape": "hv", "width": 1.6, **look},
        "hovertemplate": f"{called}<br>%{{y:.0%}} of searches reach %{{x}} tokens<extra></extra>",
    }


def _success_points(bins: Sequence[SuccessBin], called: str, place: float, marker: Mapping[str, Any]) -> dict[str, Any]:
    ends = [one.interval or (one.share, one.share) for one in bins]
    return {
        "x": [round(one.shortest + place * (one.longest - one.shortest), 2) for one in bins],
        "y": [round(one.share, 4) for one in bins],
        "error_y": {
            "array": [round(high - one.share, 4) for one, (_, high) in zip(bins, ends, strict=True)],
            "arrayminus": [round(one.share - low, 4) for one, (low, _) in zip(bins, ends, strict=True)],
            "thickness": 1,
            "width": 2,
        },
        "mode": "markers",
        "name": f"{called}: starts lossless",
        "showlegend": False,
        "marker": marker,
        "text": [
            f"{one.shortest} to {counted(one.longest, 'token')}<br>{counted(one.num_probes, 'start')} of "
            f"{counted(one.num_texts, 'text')}"
            for one in bins
        ],
        "hovertemplate": f"{called}<br>%{{text}}<br>%{{y:.0%}} lossless<extra></extra>",
    }


def accuracy_over_positions(tables: ReportTables) -> CaptionedFigure | None:
    """Share of tokens correct at each position, with and without memory, of probes that stayed lossy."""
    correct: dict[tuple[Group, bool], list[list[bool]]] = defaultdict(list)
    columns = ["model", "source", "num_vectors", "outcome", "measured_length"]
    for row in tables.probes.select([*columns, "correct_by_token", "correct_by_token_without_memory"]).to_pylist():
        if row["outcome"] == "lossy" and row["correct_by_token"] and row["correct_by_token_without_memory"]:
            model, kind, length = row["model"], source_kind(row["source"]), row["measured_length"]
            correct[(model, kind, row["num_vectors"]), True].append(unpacked_bits(row["correct_by_token"], length))
            # What is correct without memory does not depend on how many vectors a memory has.
            correct[(model, kind, 0), False].append(unpacked_bits(row["correct_by_token_without_memory"], length))
    # A group of fewer probes has no position that enough of them reach.
    correct = {key: probes for key, probes in correct.items() if len(probes) >= FEW_PROBES}
    if not any(with_memory for _, with_memory in correct):
        return None
    kinds = sorted({kind for (_, kind, _), _ in correct})
    vectors = sorted({num_vectors for (_, _, num_vectors), with_memory in correct if with_memory})
    colours, names = colours_of(tables), short_names(model for (model, _, _), _ in correct)
    figure = blank_figure("position in the text (tokens)", "share of tokens correct", panels=kinds)
    for ((model, kind, num_vectors), with_memory), probes in sorted(correct.items()):
        label = f"{kind}, k = {num_vectors}" if with_memory else f"{kind}, without memory"
        dash = DASHES[vectors.index(num_vectors) % len(DASHES)] if with_memory else "solid"
        at, shares, counts = _over_positions(probes)
        figure.add_scatter(
            x=at,
            y=shares,
            mode="lines",
            name=plain(f"{names[model]}, {label}"),
            line={"color": colours[model], "dash": dash, "width": 1.8 if with_memory else 1},
            opacity=1 if with_memory else 0.45,
            text=[counted(count, "probe") for count in counts],
            hovertemplate=f"{plain(names[model])}, {plain(label)}<br>%{{y:.0%}} correct near token %{{x:.0f}}<br>"
            "%{text}<extra></extra>",
            showlegend=False,
            row=kinds.index(kind) + 1,
            col=1,
        )
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    called = [f"k = {k}" for k in vectors] if len(vectors) > 1 else ["with memory"]
    dashes = {name: {"line": {"dash": DASHES[n % len(DASHES)]}} for n, name in enumerate(called)}
    add_key(figure, {**dashes, "without memory": {"line": {"width": 0.8}}}, mode="lines")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[-0.03, 1.05], **PERCENT_TICKS)
    total = sum(len(probes) for (_, with_memory), probes in correct.items() if with_memory)
    return CaptionedFigure(
        name="accuracy-over-positions",
        title="Where in the text a full memory errs",
        caption=(
            "Share of lossy probes that are correct at a position, teacher forced, at the step with most tokens "
            f"correct. Positions that fewer than {FEW_PROBES} probes reach are left out. n = {counted(total, 'probe')}."
        ),
        figure=figure,
    )


def _over_positions(probes: Sequence[Sequence[bool]]) -> tuple[list[float], list[float], list[int]]:
    """Middles of bins of positions, the mean share correct there, and how many probes reach them."""
    width = -(-max(map(len, probes)) // MOST_POSITION_BINS)
    bins: dict[int, list[float]] = defaultdict(list)
    for bits in probes:
        for number in range(-(-len(bits) // width)):
            bins[number].append(fmean(bits[number * width : (number + 1) * width]))
    kept = [number for number in sorted(bins) if len(bins[number]) >= FEW_PROBES]
    middles = [number * width + (width + 1) / 2 for number in kept]
    return middles, [round(fmean(bins[number]), 4) for number in kept], [len(bins[number]) for number in kept]


def steps_before_and_after(tables: ReportTables) -> CaptionedFigure | None:
    """Optimizer steps of each search before and after its last gain."""
    splits = sorted(steps_around_last_gain(tables.probes), key=lambda split: split.before + split.after)
    if not splits:
        return None
    sources = dict(zip(*(tables.searches[name].to_pylist() for name in ("search_id", "source")), strict=True))
    labels = [plain(sources.get(split.search_id, split.search_id)) for split in splits]
    figure = blank_figure("searches, sorted by optimizer steps", "optimizer steps")
    # Hundreds of bars are a hairline each, and a large file.
    draw = figure.add_bar if len(splits) <= MOST_BARS else figure.add_scatter
    look = {"textposition": "none"} if len(splits) <= MOST_BARS else {"stackgroup": "steps", "mode": "lines"}
    parts = (
        ("until the last gain", [split.before for split in splits], COLOURS[0]),
        ("after the last gain", [split.after for split in splits], NEUTRAL),
    )
    for name, values, colour in parts:
        draw(
            x=list(range(1, len(splits) + 1)),
            y=values,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            text=labels,
            **look,
            hovertemplate=f"%{{y:,}} optimizer steps {name}<br>%{{text}}<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(showgrid=False, dtick=None if len(splits) > 12 else 1)
    total = sum(split.before + split.after for split in splits)
    vain = sum(split.after for split in splits) / (total or 1)
    return CaptionedFigure(
        name="steps-before-and-after",
        title="Where the optimizer steps went",
        caption=(
            f"Each place on the axis is a search. {100 * vain:.0f} % of all optimizer steps came after the last gain "
            f"and only showed that no more fits. Mean: {total / len(splits):,.0f} optimizer steps a search. "
            f"n = {counted(len(splits), 'search')}."
        ),
        figure=figure,
    )


def steps_by_start(tables: ReportTables) -> CaptionedFigure | None:
    """Optimizer steps of each model by kind of start, and whether they gained anything."""
    columns = ["search_id", "model", "number", "start", "outcome", "proven_length", "steps", "steps_to_proof"]
    rows = [row for row in tables.probes.select(columns).to_pylist() if row["outcome"] != "failed"]
    if not rows:
        return None
    spent = _steps_by_kind(rows)
    names = short_names(spent)
    figure = blank_figure("share of the optimizer steps", "", height=150 + 50 * len(spent))
    looks = {
        "first start, until its last gain": COLOURS[0],
        "first start, without a gain": "rgba(59,130,196,.35)",
        "warm restart, until its last gain": COLOURS[1],
        "warm restart, without a gain": "rgba(217,119,58,.35)",
        "cold restart, until its last gain": COLOURS[2],
        "cold restart, without a gain": "rgba(63,157,118,.35)",
    }
    models = sorted(spent)
    for kind, colour in looks.items():
        shares = [spent[model][kind] / max(1, sum(spent[model].values())) for model in models]
        if any(shares):
            figure.add_bar(
                y=[plain(names[model]) for model in models],
                x=[round(share, 4) for share in shares],
                orientation="h",
                name=kind,
                marker={"color": colour},
                text=[f"{spent[model][kind]:,} optimizer steps" for model in models],
                textposition="none",
                hovertemplate=f"{kind}<br>%{{x:.0%}}, %{{text}}<extra></extra>",
            )
    figure.update_layout(barmode="stack", bargap=0.35, height=150 + 50 * len(spent) + 60)
    figure.update_xaxes(**PERCENT_TICKS, range=[0, 1.02])
    figure.update_yaxes(showgrid=False)
    total = sum(sum(kinds.values()) for kinds in spent.values())
    return CaptionedFigure(
        name="steps-by-start",
        title="Which starts took the optimizer steps",
        caption=(
            "Full colour: steps until a start last proved more than all starts before it. Pale: steps that gained "
            f"nothing. {counted(total, 'optimizer step')} in all. n = {counted(len(rows), 'probe')}."
        ),
        figure=figure,
    )


def _steps_by_kind(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, int]]:
    """Model -> kind of start, before or after its last gain -> optimizer steps."""
    proven: dict[str, int] = defaultdict(int)
    spent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in sorted(rows, key=lambda row: (row["search_id"], row["number"])):
        kind = "first start" if row["number"] == 0 else "cold restart" if row["start"] == "cold" else "warm restart"
        steps, gained = row["steps"] or 0, (row["proven_length"] or 0) > proven[row["search_id"]]
        useful = (row["steps_to_proof"] or 0) if gained else 0
        proven[row["search_id"]] = max(proven[row["search_id"]], row["proven_length"] or 0)
        spent[row["model"]][f"{kind}, until its last gain"] += useful
        spent[row["model"]][f"{kind}, without a gain"] += steps - useful
    return spent
