"""The figure of cross-entropies: how much of its text's each memory removes, and lines that summarize it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go

from orchestrator.report.figures.canvas import (
    DASHES,
    INK,
    LENGTHS,
    NEUTRAL,
    RANDOM_KINDS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    colours_of,
    place_of,
    plain,
)
from orchestrator.report.tables import short_names, source_kind
from tasks.wording import counted

MOST_DOTS = 4000
"""Most probes drawn: with more, a browser takes seconds, and dots hide each other."""
COLUMNS = 2
"""Panels beside each other: each is as wide as the card of another figure."""
FOLDS = 10
"""Parts of the texts that are held out in turn to judge a threshold."""
SIZES = {"lossless": 8, "lossy": 6}

Rows = Sequence[Mapping[str, Any]]


def entropy_with_and_without_memory(tables: ReportTables) -> CaptionedFigure | None:
    """Cross-entropy of each probe's text with memory against the one without memory: a panel for each model.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), figures 3 and 6.
    """
    columns = ["model", "source", "num_vectors", "sample_id", "outcome", "measured_length"]
    rows = [
        row
        for row in tables.probes.select([*columns, "nats_without_memory", "nats_with_memory"]).to_pylist()
        if row["outcome"] != "failed" and row["nats_without_memory"] is not None and row["nats_with_memory"] is not None
    ]
    if not rows:
        return None
    names = short_names(row["model"] for row in rows)
    panels = [names[model] for model in sorted(names)]
    figure = blank_figure("without memory (bits)", "with memory (bits)", panels=panels, columns=COLUMNS)
    _draw_probes(figure, rows, names)
    remarks = _draw_lines(figure, rows, names, colours_of(tables))
    if len(rows) > MOST_DOTS:
        remarks += f" {MOST_DOTS:,} probes are drawn, chosen at random."
    removed = 1 - sum(row["nats_with_memory"] for row in rows) / (sum(row["nats_without_memory"] for row in rows) or 1)
    return CaptionedFigure(
        name="entropy-with-and-without-memory",
        title="How much of a text's cross-entropy the memory removes",
        caption=(
            "Each dot is a probe, over the tokens it was measured on (colour); open dots stayed lossy. Over all probes "
            f"the memory removes {100 * removed:.0f} % of the bits. Lossless texts keep some bits, because greedy "
            f"decoding only needs each token to be the likeliest.{remarks} n = {counted(len(rows), 'probe')}."
        ),
        figure=figure,
        wide=len(names) > 1,
    )


def _draw_probes(figure: go.Figure, rows: Rows, names: Mapping[str, str]) -> None:
    shown = rows if len(rows) <= MOST_DOTS else Random(0).sample(rows, MOST_DOTS)
    clouds: dict[tuple[str, bool, str], list[Mapping[str, Any]]] = {}
    for row in shown:
        is_random = source_kind(row["source"]) in RANDOM_KINDS
        clouds.setdefault((row["model"], is_random, row["outcome"]), []).append(row)
    for (model, is_random, outcome), members in sorted(clouds.items()):
        lengths = {"color": [row["measured_length"] for row in members], "coloraxis": "coloraxis"}
        called = f"{names[model]}: {'random words, ' if is_random else ''}{outcome}"
        figure.add_scatter(
            # Two decimals: all digits of 20,000 probes are half a megabyte.
            x=[round(row["nats_without_memory"] / log(2), 2) for row in members],
            y=[round(row["nats_with_memory"] / log(2), 2) for row in members],
            mode="markers",
            marker={
                **({"color": INK} if is_random else lengths),
                "symbol": "circle" if outcome == "lossless" else "circle-open",
                "size": SIZES[outcome],
                "line": {"width": 0 if outcome == "lossless" else 1.5},
            },
            name=plain(called),
            text=[
                plain(f"{row['source']}, k = {row['num_vectors']}, {counted(row['measured_length'], 'token')}")
                for row in members
            ],
            hovertemplate=(
                f"%{{text}}, {outcome}<br>%{{x:.1f}} bits without memory<br>%{{y:.1f}} bits with memory<extra></extra>"
            ),
            showlegend=False,
            **place_of(sorted(names).index(model), min(COLUMNS, len(names))),
        )
    # A legend entry cannot show a colour scale, so it has only the symbol.
    symbols = {"lossless": "circle", "lossy": "circle-open"}
    outcomes = {outcome for _, _, outcome in clouds}
    looks = {outcome: {"marker": {"symbol": symbols[outcome], "size": 8}} for outcome in sorted(outcomes)}
    if any(is_random for _, is_random, _ in clouds):
        looks["random words"] = {"marker": {"color": INK, "size": 8}}
    add_key(figure, looks)
    if any(not is_random for _, is_random, _ in clouds):
        bar = {"title": {"text": "tokens"}, "thickness": 10, "outlinewidth": 0, "x": 1.01, "xpad": 4}
        figure.update_layout(coloraxis={"colorscale": [list(stop) for stop in LENGTHS], "colorbar": bar})


def _draw_lines(figure: go.Figure, rows: Rows, names: Mapping[str, str], colours: Mapping[str, str]) -> str:
    """Draw each model's mean gain, by k, and its lossless threshold; returns sentences for the caption."""
    vectors = sorted({row["num_vectors"] for row in rows})
    gains: list[str] = []
    full: set[int] = set()
    thresholds: list[str] = []
    for number, model in enumerate(sorted(names)):
        mine, place = [row for row in rows if row["model"] == model], place_of(number, min(COLUMNS, len(names)))
        longest = max(row["nats_without_memory"] for row in mine) / log(2)
        look = {"color": NEUTRAL, "dash": "dot", "width": 1.5}
        _draw_line(figure, (0, longest), (0, longest), f"{names[model]}: no help (y = x)", look, place)
        for dash, num_vectors in enumerate(vectors):
            gain = mean_gain([row for row in mine if row["num_vectors"] == num_vectors])
            if gain is None:
                continue
            which = names[model] + (f", k = {num_vectors}" if len(vectors) > 1 else "")
            gains.append(f"{which}: {gain:.0f}")
            full.add(num_vectors)
            if gain < longest:
                look = {"color": colours[model], "width": 1.5, "dash": DASHES[dash % len(DASHES)]}
                name = f"{which}: y = x - {gain:.0f} bits"
                _draw_line(figure, (gain, longest), (0, longest - gain), name, look, place)
        found = lossless_threshold(mine)
        # One that helps less than the caption can show is no help.
        if found is not None and round(100 * found.error) < round(100 * found.base_rate):
            thresholds.append(
                f"{names[model]} {found.bits:.0f}, wrong for {100 * found.error:.0f} % of the probes, a guess for "
                f"{100 * found.base_rate:.0f} %"
            )
            name = f"{names[model]}: lossless below {found.bits:.0f} bits"
            _draw_line(
                figure,
                (0, longest),
                (found.bits,) * 2,
                name,
                {"color": colours[model], "width": 1, "dash": "dot"},
                place,
            )
    add_key(figure, {"no help (y = x)": {"line": {"dash": "dot"}}}, mode="lines")
    if gains:
        dashes = {f"k = {k}": {"line": {"dash": DASHES[n % len(DASHES)]}} for n, k in enumerate(vectors) if k in full}
        one = {"y = x - gain": {"line": {"dash": "solid"}}}
        add_key(
            figure, {f"y = x - gain, {k}": look for k, look in dashes.items()} if len(vectors) > 1 else one, "lines"
        )
    remarks = ""
    if gains:
        remarks += (
            " Slanted lines, y = x - gain: bits that a full memory, one that stayed lossy, removes on average "
            f"({'; '.join(gains)})."
        )
    if thresholds:
        remarks += (
            f" Level lines: bits with memory that best separate lossless from lossy ({'; '.join(thresholds)}), judged "
            "on texts that did not choose them; a guess always names the more frequent outcome."
        )
    return remarks


def _draw_line(
    figure: go.Figure,
    x: tuple[float, float],
    y: tuple[float, ...],
    name: str,
    look: Mapping[str, Any],
    place: Mapping[str, int],
) -> None:
    figure.add_scatter(
        x=list(x), y=list(y), mode="lines", name=plain(name), line=look, hoverinfo="skip", showlegend=False, **place
    )


def mean_gain(rows: Rows) -> float | None:
    """Mean bits that memories remove that stayed lossy, and so were full; None if there are none.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 3: information gain.
    """
    lossy = [
        (row["nats_without_memory"] - row["nats_with_memory"]) / log(2) for row in rows if row["outcome"] == "lossy"
    ]
    return fmean(lossy) if lossy else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A rule by which bits with memory tell lossless from lossy."""

    bits: float
    """Probes with at most so many bits with memory are called lossless."""
    error: float
    """Share of probes on the wrong side of the threshold that the probes of other texts give."""
    base_rate: float
    """Share of probes that have the less frequent outcome: the error of a rule that knows nothing of bits."""


def lossless_threshold(rows: Rows) -> Threshold | None:
    """The threshold with fewest probes on the wrong side, and its error on texts that did not choose it.

    None unless both outcomes occur, in at least two texts.
    """
    bits = np.array([row["nats_with_memory"] for row in rows]) / log(2)
    lossless = np.array([row["outcome"] == "lossless" for row in rows])
    texts, which = np.unique([str(row["sample_id"]) for row in rows], return_inverse=True)
    if lossless.all() or not lossless.any() or len(texts) < 2:
        return None
    wrong = 0
    for fold in range(min(FOLDS, len(texts))):
        held_out = which % min(FOLDS, len(texts)) == fold
        chosen = _best_threshold(bits[~held_out], lossless[~held_out])
        wrong += int(((bits[held_out] <= chosen) != lossless[held_out]).sum())
    share = float(lossless.mean())
    return Threshold(bits=_best_threshold(bits, lossless), error=wrong / len(rows), base_rate=min(share, 1 - share))


def _best_threshold(bits: np.ndarray, lossless: np.ndarray) -> float:
    """The number of bits at or below which calling a probe lossless is wrong least often."""
    order = np.argsort(bits, kind="stable")
    # Called lossless are the first 0, 1, 2 .. in this order.
    wrong = lossless.sum() - np.concatenate([[0], np.cumsum(np.where(lossless[order], 1, -1))])
    best = int(wrong.argmin())
    return float(bits[order][best - 1]) if best else -1.0
