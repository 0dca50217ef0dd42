"""The figure of `capsweep verify --as`: which memories still decode elsewhere, by the margin of their certificates."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from orchestrator.analysis.portability import portable
from orchestrator.report.figures.canvas import (
    COLOURS,
    DASHES,
    SYMBOLS,
    CaptionedFigure,
    ReportTables,
    add_key,
    blank_figure,
    plain,
)
from orchestrator.report.intervals import share_over_clusters
from orchestrator.report.tables import short_names
from tasks.wording import counted

MOST_BINS = 6
"""Most bins of margins of one line; they have equal numbers of memories."""
FEWEST_MEMORIES = 6
"""Fewest memories of a bin, unless there are fewer: with less, its share says little."""


def share_that_decodes_elsewhere(tables: ReportTables) -> CaptionedFigure | None:
    """Share of memories that give their whole text back under another setting, against the certificate's margin."""
    columns = ("probe_id", "margin", "sample_id")
    probes = {row["probe_id"]: row for row in tables.probes.select(columns).to_pylist()}
    margins = {probe_id: row["margin"] for probe_id, row in probes.items()}
    rows = [row for row in tables.portability.to_pylist() if margins.get(row["probe_id"])]
    if not rows:
        return None
    settings, models = sorted({row["setting"] for row in rows}), sorted({row["model"] for row in rows})
    names = short_names(models)
    looks = {setting: COLOURS[number % len(COLOURS)] for number, setting in enumerate(settings)}
    figure = blank_figure("smallest logit margin when certified", "share that still decodes")
    for (setting, model), mine in sorted(_grouped(rows).items()):
        number = models.index(model)
        look = {"color": looks[setting], "dash": DASHES[number % len(DASHES)]}
        called = plain(f"{setting}, {names[model]}" if len(models) > 1 else setting)
        marker = {"color": looks[setting], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7}
        figure.add_scatter(**_line(mine, probes, called), line={"width": 1.6, **look}, marker=marker)
    add_key(figure, {setting: {"line": {"color": looks[setting]}} for setting in settings}, mode="lines")
    if len(models) > 1:
        dashes = {names[model]: {"line": {"dash": DASHES[n % len(DASHES)]}} for n, model in enumerate(models)}
        add_key(figure, dashes, mode="lines")
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    return CaptionedFigure(
        name="share-that-decodes-elsewhere",
        title="Where else a memory decodes",
        caption=(
            "Stored memories decoded once more under other settings: the share that gives every token of its "
            "certificate back, in bins of equal numbers of memories at their median margin, with 95 % interval over "
            f"texts; logarithmic axis. {_in_words(rows, settings, margins)} "
            f"n = {counted(len({row['probe_id'] for row in rows}), 'memory')}."
        ),
        figure=figure,
    )


def _grouped(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows of PORTABILITY by setting and model."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["setting"], row["model"]].append(row)
    return groups


def _line(rows: Sequence[dict[str, Any]], probes: Mapping[str, dict[str, Any]], called: str) -> dict[str, Any]:
    """Points and intervals of one setting and model."""
    margins = {probe_id: row["margin"] for probe_id, row in probes.items()}
    ordered = sorted(rows, key=lambda row: margins[row["probe_id"]])
    num_bins = max(1, min(MOST_BINS, len(ordered) // FEWEST_MEMORIES))
    edges = [len(ordered) * number // num_bins for number in range(num_bins + 1)]
    bins = [ordered[begin:end] for begin, end in pairwise(edges)]
    found = [
        share_over_clusters(
            [(probes[row["probe_id"]]["sample_id"], float(row["exact_prefix"] == row["tokens"])) for row in mine]
        )
        for mine in bins
    ]
    shares = [share for share, _ in found]
    intervals = [interval or (share, share) for share, interval in found]
    return {
        "x": [float(f"{median(margins[row['probe_id']] for row in mine):.3g}") for mine in bins],
        "y": [round(share, 4) for share in shares],
        "error_y": {
            "array": [round(high - share, 4) for share, (_, high) in zip(shares, intervals, strict=True)],
            "arrayminus": [round(share - low, 4) for share, (low, _) in zip(shares, intervals, strict=True)],
            "thickness": 1,
            "width": 2,
        },
        "mode": "lines+markers",
        "name": called,
        "showlegend": False,
        "text": [
            f"margins {margins[mine[0]['probe_id']]:.2g} to {margins[mine[-1]['probe_id']]:.2g}, "
            f"{counted(len(mine), 'memory')}"
            for mine in bins
        ],
        "hovertemplate": f"{called}<br>%{{text}}<br>%{{y:.0%}} still decode<extra></extra>",
    }


def _in_words(rows: Sequence[dict[str, Any]], settings: Sequence[str], margins: dict[str, float]) -> str:
    """Each setting with its share."""
    found = [portable(name, [row for row in rows if row["setting"] == name], margins) for name in settings]
    shares = [f"{one.setting} {one.num_exact} of {one.num_memories}" for one in found]
    return f"Still exact: {'; '.join(shares)}."
