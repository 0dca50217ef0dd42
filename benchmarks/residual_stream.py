"""Shows why the sphere works: the norm of the residual stream at a memory's position, layer by layer.

    python benchmarks/residual_stream.py MODEL [MODEL ..] --to docs/residual_stream.png

Each model has one panel, in which random directions of several norms are read as memories, by forward passes only. The
vector that a trained transformer adds at its first position drowns a short memory and hardly changes a long one. Needs
kaleido.
"""

import argparse
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tasks.language_model import LanguageModel
from tasks.radius import stream_lengths
from tasks.values import Model

LENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""Norms of a memory, in norms of a cold one."""
COLOURS = ("#cf4f5b", "#d9773a", "#3b82c4", "#3f9d76")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--to", required=True)
    arguments = parser.parse_args()
    # A folder called `model` is named after its parent, as in reports.
    paths = [Path(name) for name in arguments.models]
    names = [path.parent.name if path.name == "model" else path.name for path in paths]
    figure = make_subplots(cols=len(names), subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.03)
    for column, name in enumerate(arguments.models, start=1):
        model = LanguageModel(Model(name=name), device="cpu")
        for length, colour in zip(LENGTHS, COLOURS, strict=True):
            by_layer = (stream_lengths(model, length) / model.cold_length).tolist()
            print(f"{names[column - 1]}, {length:g}: {' '.join(f'{value:.3g}' for value in by_layer)}")
            line = go.Scatter(y=by_layer, name=f"{length:g}", mode="lines", line_color=colour, showlegend=column == 1)
            figure.add_trace(line, row=1, col=column)
            figure.update_xaxes(dtick=1 if len(by_layer) < 10 else 5, row=1, col=column)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_xaxes(title_text="layers read", rangemode="tozero")
    figure.update_yaxes(title_text="length of the residual stream<br>(cold memories)", col=1)
    figure.update_layout(
        template="plotly_white",
        font_size=13,
        legend_title_text="memory's length",
        margin={"l": 70, "r": 10, "t": 40, "b": 50},
    )
    figure.write_image(arguments.to, width=1000, height=360, scale=2)


if __name__ == "__main__":
    main()
