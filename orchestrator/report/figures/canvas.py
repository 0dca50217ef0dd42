"""What the figures of a report share: an empty figure, colours, symbols, hover texts.

Colours have a medium lightness and backgrounds are transparent, so that a figure is legible on white and on black; the
page's style sheet sets the colour of text and lines. Titles and captions are text of the page, where they can wrap.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from orchestrator.report.law import MODELS
from orchestrator.report.tables import UNFINISHED, SearchRow, beginning, search_rows, source_kind
from orchestrator.store.schema import BITS, LINES, NOISE, PORTABILITY, QUANTIZED
from tasks.wording import counted

COLOURS = ("#3b82c4", "#d9773a", "#3f9d76", "#b05fb0", "#cf4f5b", "#93852f", "#6b74dd", "#2f9fa8")
SYMBOLS = (
    *("circle", "diamond", "square", "triangle-up", "cross", "star"),
    *("x", "triangle-down", "pentagon", "hexagram", "bowtie", "hourglass"),
)
DASHES = ("solid", "dash", "dot", "dashdot")
LENGTHS = ((0.0, "#7cb8ea"), (0.33, "#5c7fe0"), (0.66, "#a64fc4"), (1.0, "#e0533d"))
NEUTRAL = "#8a929e"
INK = "#000000"
"""Drawn in the colour of the page's letters: the style sheet looks for it."""
PERCENT_TICKS: dict[str, Any] = {
    "tickformatstops": [
        {"dtickrange": [0.01, None], "value": ".0%"},
        {"dtickrange": [0.001, 0.01], "value": ".1%"},
        {"dtickrange": [None, 0.001], "value": ".2%"},
    ]
}
"""Format of an axis of shares, by the distance of its ticks: no two ticks of a narrow range have the same words."""
RANDOM_KINDS = frozenset({"random", "random_words"})
"""Kinds of source whose texts are random words: the name that [C] gives them, and the name of the source itself."""
HOVER_CHARACTERS = 60
"""Characters of a text under the pointer: one line, which fits beside the pointer on a page of 800 pixels."""
FIGURE_PIXELS = 380
"""Height of a figure of one panel: two rows of cards are seen together on a screen of 1,080 pixels."""
PANEL_PIXELS = 210
"""Height of a figure's panel."""
PANEL_GAP, PANEL_TITLE_PIXELS, LEGEND_GAP, TICK_GAP_PIXELS = 42, 26, 8, 4
LEGEND_LINE_PIXELS = 20
"""Height of one line of a legend in the page's font."""
COLUMN_GAP = 0.07
"""Space between columns of panels, as a share of the width."""


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
    wide: bool = False
    """Whether it has columns of panels, and so needs the whole width of the page."""


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
    portability: pa.Table = field(default_factory=PORTABILITY.empty_table)
    """What the memories give back under other settings; empty until `capsweep verify --as`."""
    models: pa.Table = field(default_factory=MODELS.empty_table)
    """Rows of MODELS; empty where nothing is known of them."""
    quantized: pa.Table = field(default_factory=QUANTIZED.empty_table)
    """Memories as whole numbers of few bits; empty until they are measured."""
    noise: pa.Table = field(default_factory=NOISE.empty_table)
    """How far memories can be turned; empty until that is measured."""


def blank_figure(
    x_title: str, y_title: str, height: int = FIGURE_PIXELS, panels: Sequence[str] = (), columns: int = 1
) -> go.Figure:
    """A figure with titled axes and nothing in it.

    Args:
        x_title: Title of the x axis, under the lowest panel of each column.
        y_title: Title of the y axis of each panel of the first column.
        height: Height of the figure in pixels; ignored with several panels.
        panels: Titles of the panels, line by line from the top; with one or none the figure has a single panel without
            a title.
        columns: Panels beside each other, each with an x axis of its own. Panels above each other share theirs.
    """
    count = max(1, len(panels))
    columns = min(columns, count)
    rows = -(-count // columns)
    if count > 1:
        height = PANEL_PIXELS * rows + FIGURE_PIXELS - PANEL_PIXELS
    places = [[{} if row * columns + column < count else None for column in range(columns)] for row in range(rows)]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        specs=places,
        shared_xaxes=columns == 1,
        subplot_titles=[plain(panel) for panel in panels] if count > 1 else None,
        vertical_spacing=(PANEL_GAP if columns == 1 else 2 * PANEL_GAP) / height,
        horizontal_spacing=COLUMN_GAP if columns > 1 else None,
    )
    left = {"x": 0, "xanchor": "left"} if columns == 1 else {}
    figure.update_annotations(font={"size": 13}, **left)
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
        | {"y": 1 + (PANEL_TITLE_PIXELS if count > 1 else LEGEND_GAP) / height},
        hoverlabel={"bgcolor": "#1f2937", "bordercolor": "#1f2937", "font": {"color": "#ffffff"}, "align": "left"},
        hovermode="closest",
    )
    line = {"gridcolor": "rgba(128,128,128,.22)", "zerolinecolor": "rgba(128,128,128,.35)", "automargin": True}
    # Apart from the lowest label of the y axis, which stands beside the first one of this axis.
    figure.update_xaxes(**line, ticklabelstandoff=TICK_GAP_PIXELS)
    figure.update_yaxes(**line)
    for number in range(count):
        row, column = divmod(number, columns)
        if number + columns >= count:
            figure.update_xaxes(title={"text": x_title, "standoff": 10}, row=row + 1, col=column + 1)
        if column == 0:
            figure.update_yaxes(title={"text": y_title, "standoff": 10}, row=row + 1, col=1)
    return figure


def place_of(number: int, columns: int) -> dict[str, int]:
    """Where plotly has the panel of this number, counted from 0, of a figure with so many columns."""
    return {"row": number // columns + 1, "col": number % columns + 1}


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


def faded(colour: str, opacity: float = 0.18) -> str:
    """The colour `#rrggbb` as that of a band."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


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
