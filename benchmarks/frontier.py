"""The frontier: certified tokens against optimizer steps and against trained tokens, capsweep and its rivals.

    python benchmarks/frontier.py LEDGER [LEDGER ..] --to docs/frontier.png [--published 38.5 10000]

Left, what the best memory after so many steps gave back when it was decoded; right, what was reached at so many trained
tokens, teacher forced, and no more than was certified in the end. Means over texts; one line a label. Needs kaleido.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ledger import Ledger
from measure import STEPS, certified_at, reached
from plotly.subplots import make_subplots

TRAINED = tuple(int(tokens) for tokens in np.geomspace(250, 40_000, 40))
COLOURS = ("#3b82c4", "#cf4f5b", "#d9773a", "#8a63b8", "#3f9d76", "#777777")


def line_of(rows: list[dict[str, Any]], colour: str, name: str) -> tuple[go.Scatter, go.Scatter]:
    """The two curves of one label, each as far as its texts were measured."""
    steps = [at for at in STEPS if all(at <= row["steps"] for row in rows)]
    trained = [at for at in TRAINED if all(at <= row["trained_tokens"] for row in rows)]
    by_steps = [float(np.mean([certified_at(row, at) for row in rows])) for at in steps]
    by_trained = [float(np.mean([reached(row, "trained_tokens", at) for row in rows])) for at in trained]
    left = go.Scatter(x=steps, y=by_steps, name=name, mode="lines+markers", line_color=colour)
    right = go.Scatter(x=trained, y=by_trained, name=name, mode="lines", line_color=colour, showlegend=False)
    return left, right


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
        left, right = line_of(rows, colour, f"{label.replace('_', ' ')}, {len(rows)} texts")
        figure.add_trace(left, row=1, col=1)
        figure.add_trace(right, row=1, col=2)
        for axis, trace in (("steps", left), ("trained tokens", right)):
            points = [f"{x:,}: {y:.1f}" for x, y in zip(trace.x, trace.y, strict=True)]  # pyright: ignore[reportArgumentType]
            print(f"{label}, {axis}: {'; '.join(points[:: 1 if axis == 'steps' else 6])}")
    if arguments.published:
        tokens, steps = arguments.published
        marker = {"symbol": "diamond-open", "size": 11, "color": "#333333"}
        point = go.Scatter(x=[steps], y=[tokens], mode="markers", marker=marker, name="published, teacher forced")
        figure.add_trace(point, row=1, col=1)
    figure.update_xaxes(type="log", title_text="optimizer steps a text", col=1)
    figure.update_xaxes(type="log", title_text="trained tokens a text", col=2)
    figure.update_yaxes(title_text="tokens given back", rangemode="tozero", col=1)
    figure.update_layout(template="plotly_white", font_size=13, margin={"l": 60, "r": 10, "t": 20, "b": 50})
    figure.write_image(arguments.to, width=1000, height=380, scale=2)


if __name__ == "__main__":
    main()
