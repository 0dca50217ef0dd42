"""The frontier: certified tokens against optimizer steps and against trained tokens, capsweep and its rivals.

    python benchmarks/frontier.py LEDGER [LEDGER ..] --to docs/frontier.png [--published 38.5 10000]

Left, what the best memory after so many steps gave back when it was decoded; right, what was reached at so many trained
tokens, teacher forced, and no more than was certified in the end. Dotted, what was claimed, where that is more. Means
over texts, as far as every text was measured; a text that ended keeps what it had. Needs kaleido.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ledger import Ledger
from measure import STEPS
from plotly.subplots import make_subplots

from orchestrator.report.frontier import Curve, Proof, Unit, curve_of

TRAINED = tuple(int(tokens) for tokens in np.geomspace(250, 40_000, 40))
COLUMNS: tuple[tuple[int, Unit, tuple[int, ...]], ...] = ((1, "steps", STEPS), (2, "trained_tokens", TRAINED))
"""Columns of the figure: the cost, and where it is looked at."""
CLAIMED_MORE = 1.0
"""Tokens, on average: what is claimed is drawn where it exceeds what was certified by more."""
COLOURS = ("#3b82c4", "#cf4f5b", "#d9773a", "#8a63b8", "#3f9d76", "#777777")


def furthest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each text the row with the largest budget: rows at smaller budgets lie on its way."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["trained_tokens"]):
        best[row["source_tokens"]] = row
    return list(best.values())


def curve(row: dict[str, Any], unit: Unit, proof: Proof) -> Curve:
    """The curve of a text; it is censored beyond the end of a row that spent its budget."""
    return curve_of([row], unit, proof, is_over=row["budget"] is None or row["trained_tokens"] < row["budget"])


def curves_of(rows: list[dict[str, Any]], colour: str, name: str) -> dict[int, list[go.Scatter]]:
    """The curves of one label by column: certified, and dotted what is claimed where that differs."""
    curves: dict[int, list[go.Scatter]] = {}
    for column, unit, places in COLUMNS:
        reached = [curve(row, unit, "reached") for row in rows]
        certified = [curve(row, unit, "certified") for row in rows]
        known = [at for at in places if not any(one.is_censored(at) for one in reached)]
        claims = [float(np.mean([one.at(at) for one in reached])) for at in known]
        if column == 1:
            proven = [float(np.mean([one.at(at) for one in certified])) for at in known]
        else:
            # Memories were decoded at certain steps, which are no certain numbers of trained tokens.
            ends = [one.lengths[-1] if one.lengths else 0 for one in certified]
            proven = [
                float(np.mean([min(end, one.at(at)) for end, one in zip(ends, reached, strict=True)])) for at in known
            ]
        mode, shown = ("lines+markers", True) if column == 1 else ("lines", False)
        curves[column] = [go.Scatter(x=known, y=proven, name=name, mode=mode, line_color=colour, showlegend=shown)]
        if max(np.subtract(claims, proven), default=0) > CLAIMED_MORE:
            look = {"color": colour, "dash": "dot"}
            label = f"{name.partition(',')[0]}, claimed"
            curves[column].append(go.Scatter(x=known, y=claims, name=label, mode="lines", line=look, showlegend=shown))
    return curves


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledgers", nargs="+")
    parser.add_argument("--to", required=True)
    parser.add_argument("--published", nargs=2, type=float, metavar=("TOKENS", "STEPS"), help="a published point")
    arguments = parser.parse_args()
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in arguments.ledgers:
        for row in Ledger(Path(path)).rows:
            groups[row["label"]].append(row)
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for (label, rows), colour in zip(groups.items(), COLOURS, strict=False):
        texts = furthest(rows)
        for column, curves in curves_of(texts, colour, f"{label.replace('_', ' ')}, {len(texts)} texts").items():
            for curve in curves:
                figure.add_trace(curve, row=1, col=column)
                points = [f"{x:,}: {y:.1f}" for x, y in zip(curve.x, curve.y, strict=True)]  # pyright: ignore[reportArgumentType]
                unit = COLUMNS[column - 1][1].replace("_", " ")
                print(f"{curve.name}, {unit}: {'; '.join(points[:: 1 if column == 1 else 6])}")
    if arguments.published:
        tokens, steps = arguments.published
        marker = {"symbol": "diamond-open", "size": 11, "color": "#333333"}
        name = "the progressive paper's figure,<br>base model, claimed"
        point = go.Scatter(x=[steps], y=[tokens], mode="markers", marker=marker, name=name)
        figure.add_trace(point, row=1, col=1)
    figure.update_xaxes(type="log", title_text="optimizer steps a text", col=1)
    figure.update_xaxes(type="log", title_text="trained tokens a text", col=2)
    figure.update_yaxes(title_text="tokens given back", rangemode="tozero", col=1)
    figure.update_layout(template="plotly_white", font_size=13, margin={"l": 60, "r": 10, "t": 20, "b": 50})
    figure.write_image(arguments.to, width=1000, height=380, scale=2)


if __name__ == "__main__":
    main()
