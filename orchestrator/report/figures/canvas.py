"""What the figures of a report share: an empty figure, colours, symbols, hover texts.

Colours have a medium lightness and backgrounds are transparent, so that a figure is legible on white and on black; the
page's style sheet sets the colour of text and lines. Titles and captions are text of the page, where they can wrap.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from orchestrator.report.law import MODELS
from orchestrator.report.tables import UNFINISHED, SearchRow, beginning, search_rows, source_kind
from orchestrator.store.schema import BITS, LINES
from tasks.wording import counted

COLOURS = ("#3b82c4", "#d9773a", "#3f9d76", "#b05fb0", "#cf4f5b", "#93852f", "#6b74dd", "#2f9fa8")
SYMBOLS = (
    *("circle", "diamond", "square", "triangle-up", "cross", "star"),
    *("x", "triangle-down", "pentagon", "hexagram", "bowtie", "hourglass"),
)
DASHES = ("solid", "dash", "dot", "dashdot")
LENGTHS = ((0.0, "#7cb8ea"), (0.33, "#5c7fe0"), (0.66, "#a64fc4"), (1.0, "#e0533d"))
NEUTRAL = "#8a929e"
HOVER_CHARACTERS = 60
"""Characters of a text under the pointer: one line, which fits beside the pointer on a page of 800 pixels."""
FIGURE_PIXELS = 380
"""Height of a figure of one panel: two rows of cards are seen together on a screen of 1,080 pixels."""
PANEL_PIXELS = 210
"""Height of a figure's panel."""
PANEL_GAP, PANEL_TITLE_PIXELS, LEGEND_GAP = 42, 26, 8
LEGEND_LINE_PIXELS = 20
"""Height of one line of a legend in the page's font."""
IMAGE_PIXELS = 900
"""Width of an image file."""
CAPTION_CHARACTERS = 120
"""Characters of a caption in one line of an image."""
TITLE_PIXELS, AXIS_PIXELS, CAPTION_LINE_PIXELS = 44, 58, 17


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedFigure:
    """A figure and the words that go with it."""

    name: str
    """Identifier within a page and stem of an image file."""
    title: str
    """What it shows."""
    caption: str
    """How to read it, and over how many searches or probes."""
    figure: go.Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTables:
    """The tables of a run, or of several runs together."""

    probes: pa.Table
    """Rows of PROBES, with their columns by token; memories may be null."""
    searches: pa.Table
    samples: pa.Table
    bits: pa.Table = field(default_factory=BITS.empty_table)
    """The bits ledger; empty until it is measured."""
    lines: pa.Table = field(default_factory=LINES.empty_table)
    """The lines between memories; empty until they are measured."""
    models: pa.Table = field(default_factory=MODELS.empty_table)
    """What the run recorded about its models, one row each."""


def blank_figure(x_title: str, y_title: str, height: int = FIGURE_PIXELS, panels: Sequence[str] = ()) -> go.Figure:
    """A figure with titled axes and nothing in it.

    Args:
        x_title: Title of the x axis, under the lowest panel.
        y_title: Title of the y axis of each panel.
        height: Height of the figure in pixels; ignored with several panels.
        panels: Titles of the panels, from the top; with one or none the figure has a single panel without a title.
    """
    if len(panels) > 1:
        height = PANEL_PIXELS * len(panels) + FIGURE_PIXELS - PANEL_PIXELS
    titles = [plain(panel) for panel in panels] if len(panels) > 1 else None
    figure = make_subplots(
        rows=max(1, len(panels)), shared_xaxes=True, subplot_titles=titles, vertical_spacing=PANEL_GAP / height
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        # The height without a legend, which add_key adds to.
        meta=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#6b7280"},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "yanchor": "bottom", "traceorder": "normal"}
        # Above the title of the first panel.
        | {"y": 1 + (PANEL_TITLE_PIXELS if len(panels) > 1 else LEGEND_GAP) / height},
        hoverlabel={"bgcolor": "#1f2937", "bordercolor": "#1f2937", "font": {"color": "#ffffff"}, "align": "left"},
        hovermode="closest",
    )
    line = {"gridcolor": "rgba(128,128,128,.22)", "zerolinecolor": "rgba(128,128,128,.35)", "automargin": True}
    figure.update_xaxes(**line)
    figure.update_xaxes(title={"text": x_title, "standoff": 10}, row=max(1, len(panels)))
    figure.update_yaxes(title={"text": y_title, "standoff": 10}, **line)
    return figure


def standing_alone(drawn: CaptionedFigure) -> go.Figure:
    """The figure for an image file: on white, with its title above and its caption below."""
    figure = go.Figure(drawn.figure)
    lines = wrap(drawn.caption, CAPTION_CHARACTERS)
    entries = len(list(figure.select_traces({"showlegend": True})))
    above = TITLE_PIXELS + LEGEND_LINE_PIXELS * (1 + entries // 3)
    below = AXIS_PIXELS + CAPTION_LINE_PIXELS * len(lines)
    figure.update_layout(
        paper_bgcolor="white",
        plot_bgcolor="white",
        width=IMAGE_PIXELS,
        height=figure.layout["height"] + above + below,
        margin={"t": above, "b": below, "l": 16, "r": 16},
        title={
            "text": plain(drawn.title),
            "font": {"size": 18, "color": "#171b22"},
            "xref": "container",
            "x": 0.02,
            "xanchor": "left",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 14},
        },
    )
    figure.add_annotation(
        text="<br>".join(map(plain, lines)),
        xref="paper",
        x=0,
        xanchor="left",
        align="left",
        showarrow=False,
        yref="paper",
        y=0,
        yanchor="top",
        yshift=-AXIS_PIXELS,
        font={"size": 12},
    )
    return figure


def finished_rows(tables: ReportTables) -> list[SearchRow]:
    """The searches that means are taken over."""
    return [row for row in search_rows(tables.searches, tables.samples) if row.status not in UNFINISHED]


def group_of(row: SearchRow) -> tuple[str, str, int]:
    """(model, kind of source, num_vectors)."""
    return row.model, source_kind(row.source), row.num_vectors


def colours_of(tables: ReportTables) -> dict[str, str]:
    """The same colour for a model in every figure."""
    models = sorted(set(tables.searches["model"].to_pylist()) | set(tables.probes["model"].to_pylist()))
    return {model: COLOURS[number % len(COLOURS)] for number, model in enumerate(models)}


def symbols_of(rows: Sequence[SearchRow]) -> dict[tuple[str, int], str]:
    """(kind of source, num_vectors) -> symbol."""
    pairs = sorted({(source_kind(row.source), row.num_vectors) for row in rows})
    return {pair: SYMBOLS[number % len(SYMBOLS)] for number, pair in enumerate(pairs)}


def kind_name(pair: tuple[str, int], pairs: Collection[tuple[str, int]]) -> str:
    """The parts of (kind of source, num_vectors) that differ among `pairs`, as text."""
    kind, num_vectors = pair
    parts = [kind] if len({other for other, _ in pairs}) > 1 else []
    parts += [f"k = {num_vectors}"] if len({other for _, other in pairs}) > 1 else []
    return ", ".join(parts)


def add_key(figure: go.Figure, looks: Mapping[str, Mapping[str, Any]], mode: str = "markers") -> None:
    """Add one legend entry for each colour, symbol or dash, rather than for each of their combinations."""
    for name, look in looks.items():
        look = {part: {"color": NEUTRAL, **value} for part, value in look.items()}
        figure.add_scatter(x=[None], y=[None], mode=mode, name=plain(name), showlegend=True, **look)
    entries = len(list(figure.select_traces({"showlegend": True})))
    # A line holds two or three entries; the figure grows by the lines, so that the plot keeps its height.
    figure.update_layout(height=figure.layout["meta"] + LEGEND_LINE_PIXELS * (entries // 2))


def plain(text: str) -> str:
    """Text escaped for plotly, which reads <b>, <a href=..> and entities in any text as markup."""
    return escape(text, quote=False)


def hover_text(row: SearchRow) -> str:
    """The source of a search's text, the result, and the beginning of the text, escaped for plotly."""
    tokens = "" if row.capacity_tokens is None else f"{counted(row.capacity_tokens, 'token')}, "
    bits = "" if row.capacity_bits is None else f"{row.capacity_bits:.1f} bits, "
    density = "" if row.bits_per_dimension is None else f"{row.bits_per_dimension:.2f} bits per dimension, "
    lines = [f"{plain(row.source)}, k = {row.num_vectors}", f"{tokens}{bits}{density}{row.status}"]
    if row.text:
        lines.append(f"“{plain(beginning(row.text, HOVER_CHARACTERS))}”")
    return "<br>".join(lines)


def count_of(rows: Sequence[SearchRow]) -> str:
    """The n of a caption."""
    return f"n = {counted(len(rows), 'finished search')}"
