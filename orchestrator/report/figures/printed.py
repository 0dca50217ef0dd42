"""A figure as a paper prints it: as wide as a column, with letters of its size, without title and caption.

Knows nothing of files.
"""

import re
from random import Random
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.report.figures.canvas import CaptionedFigure

PIXELS_PER_INCH = 96
"""Of CSS, by which a browser makes PDF and SVG as large as asked."""
COLUMN_INCHES = 3.3
"""Width of one of two columns in the style of ACL, ICML and NeurIPS workshops: 3.25 to 3.35 inches."""
PAGE_INCHES = 5.0
"""From this width on, panels stay beside each other; in a column they stand above each other."""
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
"""Inches of each unit of a width."""
NARROWEST, WIDEST = 2.0, 20.0
LETTER_PIXELS = 8 * PIXELS_PER_INCH / 72
"""8 points: captions of those styles have 9 or 10."""
SMALL_PIXELS = 7 * PIXELS_PER_INCH / 72
SCREEN_PIXELS = 520
"""Width for which the height of a figure was chosen: that of its card on the page."""
MOST_DOTS = 600
"""Dots of a printed figure: an SVG has about 200 bytes for each, and more hide each other at this width."""
PANEL_PIXELS, GAP_PIXELS = 270, 70
"""Height of a panel that stands above another one in a column, on the screen's scale, and the space between them."""
ENTRY_PIXELS, LINE_PIXELS, AXIS_PIXELS = 50, 19, 40
"""Of a legend: width of an entry without its words, height of a line; and width of what stands left of the axis."""
THINNER = 0.7
"""Lines and marks of the screen are too thick in print."""


def inches_of(width: str) -> float:
    """A width such as `3.3in`, `8.4cm`, `84mm` or `240pt` in inches; raises BadInput for anything else."""
    found = re.fullmatch(rf"(\d+\.?\d*|\.\d+) *({'|'.join(UNITS)})", width.strip())
    inches = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not NARROWEST <= inches <= WIDEST:
        raise BadInput(
            f"--width: {width!r} is not the width of a figure. Wanted a number and a unit ({', '.join(UNITS)}), from "
            f"{NARROWEST:g} to {WIDEST:g} inches: --width 3.3in is a column of a paper, 6.75in both columns."
        )
    return inches


def printed(drawn: CaptionedFigure, inches: float = COLUMN_INCHES) -> dict[str, Any]:
    """The figure as plotly's JSON: on white, `inches` wide, with black letters of 7 and 8 points.

    At most MOST_DOTS single dots are left of it.
    """
    figure, pixels = drawn.figure.to_dict(), round(inches * PIXELS_PER_INCH)
    layout, traces = figure["layout"], figure["data"]
    axes = [layout[name] for name in _axes(layout, "x") + _axes(layout, "y")]
    height = layout["meta"]
    if drawn.wide and inches < PAGE_INCHES:
        height = _stacked(layout, height)
    _thin_out(traces)
    for trace in traces:
        _make_finer(trace)
    legend = _legend_pixels(traces, pixels) if layout.get("showlegend", True) else 0
    letters, small = {"size": LETTER_PIXELS, "color": "black"}, {"size": SMALL_PIXELS, "color": "black"}
    for axis in axes:
        axis |= {"tickfont": small, "ticks": "outside", "ticklen": 3, "ticklabelstandoff": 0}
        axis["title"] = {**axis.get("title", {}), "font": letters, "standoff": 4}
    for words in layout.get("annotations", []):
        words["font"] = letters
    if "colorbar" in layout.get("coloraxis", {}):
        layout["coloraxis"]["colorbar"] |= {
            "tickfont": small,
            "title": {"text": "tokens", "font": small},
            "thickness": 6,
        }
    layout |= {
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "width": pixels,
        "height": round(height * min(1.0, pixels / SCREEN_PIXELS) + legend),
        # Below stand ticks and title of the lowest axis: plotly's own margin for them comes out too small.
        "margin": {"l": 2, "r": 14, "t": 4, "b": 42},
        "font": {**layout["font"], **letters},
        "legend": {**layout["legend"], "font": small, "itemwidth": 30},
    }
    return figure


def _axes(layout: dict[str, Any], letter: str) -> list[str]:
    """`xaxis`, `xaxis2` .. in the order of the panels."""
    names = [name for name in layout if name.startswith(f"{letter}axis")]
    return sorted(names, key=lambda name: int(name[5:] or 1))


def _legend_pixels(traces: list[dict[str, Any]], pixels: int) -> float:
    """Height of the legend: plotly gives every entry of a line the width of the longest."""
    names = [str(trace.get("name")) for trace in traces if trace.get("showlegend", True)]
    longest = max((ENTRY_PIXELS + 0.6 * SMALL_PIXELS * len(name) for name in names), default=1.0)
    beside = max(1, int((pixels - AXIS_PIXELS) // longest))
    return LINE_PIXELS * -(-len(names) // beside)


def _stacked(layout: dict[str, Any], height: int) -> int:
    """Put panels that stand beside each other above each other; returns the height of the figure."""
    across, up = _axes(layout, "x"), _axes(layout, "y")
    rows, each = len(across), min(height, PANEL_PIXELS)
    (title,) = {layout[name]["title"]["text"] for name in across if "title" in layout[name]}
    gap = GAP_PIXELS / (each * rows)
    part = (1 - gap * (rows - 1)) / rows
    for number, (x, y) in enumerate(zip(across, up, strict=True)):
        top = 1 - number * (part + gap)
        layout[x] |= {"domain": [0, 1], "title": {"text": title if number == rows - 1 else ""}}
        layout[y]["domain"] = [max(0.0, top - part), top]
        layout["annotations"][number] |= {"x": 0, "xanchor": "left", "y": top}
    return each * rows


def _make_finer(trace: dict[str, Any]) -> None:
    marker, line = trace.get("marker", {}), trace.get("line", {})
    if "size" in marker:
        size = marker["size"]
        marker["size"] = [THINNER * each for each in size] if isinstance(size, list | tuple) else THINNER * size
    if "width" in line:
        line["width"] *= THINNER
    if "text" in trace.get("mode", ""):
        trace["textfont"] = {"size": SMALL_PIXELS, "color": "black"}
    for name in ("error_x", "error_y"):
        if name in trace:
            trace[name] |= {"thickness": 1, "width": 2}


def _thin_out(traces: list[dict[str, Any]]) -> None:
    """Keep a random part of the single dots of a figure that has too many."""
    clouds = [trace for trace in traces if trace.get("mode") == "markers" and not {"error_x", "error_y"} & trace.keys()]
    total = sum(len(trace["x"]) for trace in clouds)
    if total <= MOST_DOTS:
        return
    for trace in clouds:
        count = len(trace["x"])
        kept = sorted(Random(0).sample(range(count), max(1, count * MOST_DOTS // total)))
        for values in (trace, trace.get("marker", {})):
            for name, value in values.items():
                if isinstance(value, list | tuple) and len(value) == count:
                    values[name] = [value[i] for i in kept]
