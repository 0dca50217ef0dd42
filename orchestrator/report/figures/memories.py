"""Figures of the memories: their size in bytes, how similar they are, and what lies between two of them."""

from collections import defaultdict
from math import log10
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from orchestrator.report.tables import short_names, source_kind
from tasks.wording import counted

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
COMPRESSORS = {
    "arithmetic": "arithmetic coding",
    "zstd": "zstd",
    "lzma": "lzma",
    "bz2": "bz2",
    "zlib": "zlib",
}
REMOVED = "bits the memory removes"
MOST_MEMORIES = 400
"""Most memories of one model and k that are compared, the first by sample_id: every pair of them is a cosine."""
COSINE_BINS = 40
"""Each is 0.05 wide: narrower ones are mostly noise with the few hundred pairs of a small run."""


def bits_ledger(tables: ReportTables) -> CaptionedFigure | None:
    """Mean bytes of a text under each way to store it, and of the memory at each precision."""
    models = dict(zip(*(tables.searches[name].to_pylist() for name in ("search_id", "model")), strict=True))
    rows = [{**row, "model": models[row["search_id"]]} for row in tables.bits.to_pylist() if row["search_id"] in models]
    if not rows:
        return None
    colours, names = colours_of(tables), short_names(row["model"] for row in rows)
    ways = [
        "text, plain",
        *COMPRESSORS.values(),
        "the model's bits",
        REMOVED,
        *(f"memory, {name}" for name in PRECISIONS),
    ]
    figure = blank_figure("bytes (mean)", "", height=150 + 30 * len(ways))
    for model in sorted(names):
        found = _mean_sizes([row for row in rows if row["model"] == model])
        figure.add_scatter(
            x=[round(size, 1) for _, size, _ in found],
            y=[way for way, _, _ in found],
            mode="markers",
            name=plain(names[model]),
            marker={"color": colours[model], "size": 10},
            text=[detail for _, _, detail in found],
            hovertemplate=f"{plain(names[model])}, %{{y}}<br>%{{x:,.0f}} bytes<br>%{{text}}<extra></extra>",
            showlegend=len(names) > 1,
        )
    figure.update_xaxes(type="log", dtick=1 if log10(max(row["float32_bytes"] for row in rows)) > 3 else None)
    figure.update_yaxes(categoryorder="array", categoryarray=ways[::-1], showgrid=True)
    whole = {name: fmean(_still_lossless(row, name) for row in rows) for name in PRECISIONS}
    still_lossless = ", ".join(f"{share:.0%} at {name}" for name, share in whole.items())
    removed, of = sum(row["removed_bits"] or 0 for row in rows), sum(row["model_bits"] for row in rows)
    return CaptionedFigure(
        name="bits-ledger",
        title="Why this is not compression",
        caption=(
            "Bytes that store a search's text, each compressor run both ways (arithmetic coding: with the same model), "
            f"and bytes of its memory; logarithmic axis. The memory removes {removed / (of or 1):.0%} of the model's "
            f"bits. Share of memories that still meet the run's criterion when quantized: {still_lossless}. "
            f"n = {counted(len(rows), 'search')}."
        ),
        figure=figure,
    )


def _mean_sizes(rows: list[dict[str, Any]]) -> list[tuple[str, float, str]]:
    """(way to store a text or its memory, mean bytes, detail for the hover text), over rows of BITS."""
    found: list[tuple[str, float, str]] = [("text, plain", fmean(row["text_bytes"] for row in rows), "")]
    for name, way in COMPRESSORS.items():
        packed = [row[f"{name}_bytes"] for row in rows if row[f"{name}_bytes"] is not None]
        if packed:
            found.append((way, fmean(packed), f"{counted(len(packed), 'text')} restored to the byte"))
    found.append(("the model's bits", fmean(row["model_bits"] for row in rows) / 8, "cross-entropy, not encoded"))
    removed = fmean(row["removed_bits"] or 0 for row in rows) / 8
    if removed > 0:
        detail = f"{removed / (fmean(row['model_bits'] for row in rows) / 8):.0%} of the model's bits"
        found.append((REMOVED, removed, detail))
    for name in PRECISIONS:
        whole = fmean(_still_lossless(row, name) for row in rows)
        prefix = fmean(row[f"{name}_exact_prefix"] / row["tokens"] for row in rows)
        detail = f"{whole:.0%} still meet the criterion; decoding gives {prefix:.0%} of the tokens before an error"
        found.append((f"memory, {name}", fmean(row[f"{name}_bytes"] for row in rows), detail))
    return found


def _still_lossless(row: dict[str, Any], precision: str) -> bool:
    """Whether a memory at this precision meets its run's criterion; rows before schema 4 hold only the prefix."""
    found = row[f"{precision}_lossless"]
    return row[f"{precision}_exact_prefix"] == row["tokens"] if found is None else found


def _memories(tables: ReportTables) -> dict[tuple[str, int], list[tuple[dict[str, Any], NDArray[np.float32]]]]:
    """Memories by model and k, each as one flat vector, the best first within a text."""
    columns = ["model", "num_vectors", "sample_id", "source", "proven_length", "probe_id", "memory"]
    rows = [row for row in tables.probes.select(columns).to_pylist() if row["memory"] and row["proven_length"]]
    found: dict[tuple[str, int], list[tuple[dict[str, Any], NDArray[np.float32]]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["sample_id"], -row["proven_length"], row["probe_id"])):
        group = found[row["model"], row["num_vectors"]]
        if len(group) < MOST_MEMORIES:
            group.append((row, np.frombuffer(row["memory"], dtype="<f4")))
    return {key: group for key, group in sorted(found.items()) if len(group) > 2}


def cosines_of_memories(tables: ReportTables) -> CaptionedFigure | None:
    """How similar memories of one text are, and memories of different texts."""
    groups = _memories(tables)
    within: list[float] = []
    between: list[float] = []
    for group in groups.values():
        stacked_MD = np.stack([memory for _, memory in group])
        lengths_M1 = np.linalg.norm(stacked_MD, axis=1, keepdims=True)
        unit_MD = stacked_MD / np.where(lengths_M1 > 0, lengths_M1, 1)
        texts = np.array([row["sample_id"] for row, _ in group])
        cosines_MM, same_MM = unit_MD @ unit_MD.T, texts[:, None] == texts[None, :]
        upper_MM = np.triu(np.ones_like(same_MM), 1)
        within += cosines_MM[upper_MM & same_MM].tolist()
        between += cosines_MM[upper_MM & ~same_MM].tolist()
    if not between:
        return None
    figure = blank_figure("cosine of two memories", "share of the pairs")
    for pair_of, values, colour in (("different texts", between, NEUTRAL), ("one text", within, COLOURS[1])):
        if values:
            counts, edges = np.histogram(values, bins=COSINE_BINS, range=(-1, 1))
            figure.add_bar(
                x=((edges[:-1] + edges[1:]) / 2).round(4).tolist(),
                y=(counts / max(1, counts.sum())).round(5).tolist(),
                width=2 / COSINE_BINS,
                name=f"two memories of {pair_of}",
                marker={"color": colour, "opacity": 0.6, "line": {"width": 0}},
                hovertemplate=f"{pair_of}: %{{y:.1%}} of the pairs near %{{x:.2f}}<extra></extra>",
            )
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_yaxes(**PERCENT_TICKS)
    means = f" Means: {fmean(within):.2f} within a text," if within else " Mean:"
    return CaptionedFigure(
        name="cosines-of-memories",
        title="How similar memories are, within a text and between texts",
        caption=(
            "Pairs of memories of one model and k, each memory as one long vector. A warm start begins from another "
            "memory of the same text."
            f"{means} {fmean(between):.2f} between texts. n = {counted(len(within) + len(between), 'pair')} of "
            f"{counted(sum(map(len, groups.values())), 'memory')}."
        ),
        figure=figure,
    )


def memories_in_two_dimensions(tables: ReportTables) -> CaptionedFigure | None:
    """The first two principal components of each model's memories of one vector number."""
    fewest: dict[str, int] = {}
    groups = _memories(tables)
    for model, num_vectors in groups:
        fewest[model] = min(num_vectors, fewest.get(model, num_vectors))
    if not fewest:
        return None
    colours, names = colours_of(tables), short_names(fewest)
    kinds = sorted({source_kind(row["source"]) for group in groups.values() for row, _ in group})
    figure = blank_figure("first principal component (its standard deviations)", "second")
    explained: list[str] = []
    for model, num_vectors in fewest.items():
        group = groups[model, num_vectors]
        stacked_MD = np.stack([memory for _, memory in group]).astype(np.float64)
        left_MR, sizes_R, _ = np.linalg.svd(stacked_MD - stacked_MD.mean(0), full_matrices=False)
        shares = sizes_R**2 / max(1e-12, float((sizes_R**2).sum()))
        explained.append(f"{names[model]} (k = {num_vectors}) {shares[:2].sum():.0%}")
        scores_M2 = left_MR[:, :2] * len(group) ** 0.5
        if scores_M2.shape[1] < 2:
            continue
        for number, kind in enumerate(kinds):
            mine = [i for i, (row, _) in enumerate(group) if source_kind(row["source"]) == kind]
            figure.add_scatter(
                x=scores_M2[mine, 0].round(3).tolist(),
                y=scores_M2[mine, 1].round(3).tolist(),
                mode="markers",
                name=plain(f"{names[model]}: {kind}"),
                marker={"color": colours[model], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7, "opacity": 0.7},
                text=[
                    f"{plain(group[i][0]['source'])}<br>{counted(group[i][0]['proven_length'], 'token')}" for i in mine
                ],
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            )
    add_key(figure, {names[model]: {"marker": {"color": colours[model], "size": 9}} for model in sorted(names)})
    if len(kinds) > 1:
        add_key(
            figure,
            {kind: {"marker": {"symbol": SYMBOLS[n % len(SYMBOLS)], "size": 8}} for n, kind in enumerate(kinds)},
        )
    return CaptionedFigure(
        name="memories-in-two-dimensions",
        title="Where memories lie",
        caption=(
            f"Each model has its own axes. Share of the variance in the two components: {plain(', '.join(explained))}. "
            f"n = {counted(sum(len(groups[key]) for key in fewest.items()), 'memory')}."
        ),
        figure=figure,
    )


def accuracy_along_lines(tables: ReportTables) -> CaptionedFigure | None:
    """Accuracy on the straight line between two memories that both give a text back."""
    rows = tables.lines.to_pylist()
    if not rows:
        return None
    colours, names = colours_of(tables), short_names(row["model"] for row in rows)
    figure = blank_figure("share of the way from one memory to the other", "share of tokens correct")
    for model in sorted(names):
        by_share: dict[float, list[float]] = defaultdict(list)
        for row in rows:
            if row["model"] == model:
                by_share[row["share"]].append(row["accuracy"])
        at = sorted(by_share)
        ends = [([min(by_share[share]) for share in at], 0), ([max(by_share[share]) for share in at], 1)]
        for values, number in ends:
            figure.add_scatter(
                x=at,
                y=[round(value, 4) for value in values],
                mode="lines",
                name=plain(f"{names[model]}: {('least', 'most')[number]}"),
                line={"color": colours[model], "width": 0.5},
                # The second of both fills the band down to the first.
                fill=(None, "tonexty")[number],
                fillcolor=faded(colours[model]),
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=at,
            y=[round(fmean(by_share[share]), 4) for share in at],
            mode="lines",
            name=plain(f"{names[model]}: mean"),
            line={"color": colours[model], "width": 3},
            hovertemplate=f"{plain(names[model])}, mean<br>%{{y:.0%}}<extra></extra>",
            showlegend=False,
        )
    add_key(figure, {names[model]: {"line": {"color": colours[model]}} for model in sorted(names)}, mode="lines")
    figure.update_yaxes(range=[-0.03, 1.05], **PERCENT_TICKS)
    pairs = {(row["from_probe_id"], row["to_probe_id"]) for row in rows}
    return CaptionedFigure(
        name="accuracy-along-lines",
        title="What lies between two memories of one text",
        caption=(
            "Accuracy, teacher forced, on the line between two memories that both prove a text. Thick: the mean over "
            f"the pairs of a model; band: from the least to the most of them. n = {counted(len(pairs), 'pair')}."
        ),
        figure=figure,
    )
