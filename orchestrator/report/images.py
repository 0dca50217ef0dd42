"""Writes the figures of a run as images for a paper, bare and as wide as a column."""

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import BadInput
from orchestrator.report.figures.all_figures import figures
from orchestrator.report.figures.canvas import CaptionedFigure, ReportTables
from orchestrator.report.figures.printed import COLUMN_INCHES, PIXELS_PER_INCH, printed
from orchestrator.report.writing import write_file

PNG_DOTS_PER_INCH = 300
CAPTIONS_FILE = "captions.md"


def write_images(tables: ReportTables, folder: Path, kind: str, inches: float = COLUMN_INCHES) -> list[Path]:
    """Write every figure as png, svg or pdf, without its title and caption: those are in CAPTIONS_FILE beside them.

    Args:
        tables: The tables of a run, or of several joined.
        folder: Made if it does not exist.
        kind: `png`, `svg` or `pdf`; a png has 300 dots an inch.
        inches: Width of each image.

    Raises:
        BadInput: when kaleido or its browser is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(tables)
    paths = [folder / f"{figure.name}.{kind}" for figure in drawn]
    draw(drawn, paths, inches)
    captions = [
        f"**{figure.title}** (`{path.name}`): {figure.caption}\n" for figure, path in zip(drawn, paths, strict=True)
    ]
    write_file(folder / CAPTIONS_FILE, "\n".join(captions).encode())
    return paths


def draw(drawn: Sequence[CaptionedFigure], paths: Sequence[Path], inches: float) -> None:
    """Write each figure to its path, whose suffix names the format; `inches` is the width of each.

    Raises:
        BadInput: when kaleido or its browser is missing.
    """
    # Takes half a second to import.
    import plotly.io

    try:
        images = [printed(figure, inches) for figure in drawn]
        # Of a dict, plotly does not read the size.
        sizes = {name: [image["layout"][name] for image in images] for name in ("width", "height")}
        scales: list[int | float | None] = [
            PNG_DOTS_PER_INCH / PIXELS_PER_INCH if path.suffix == ".png" else 1 for path in paths
        ]
        plotly.io.write_images(images, [*paths], scale=scales, **sizes)
    except (ImportError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"no image could be written ({' '.join(str(error).split())[:120]}). Wanted kaleido and a Chrome or "
            "Chromium: pip install 'capsweep[images]', then plotly_get_chrome or apt-get install chromium."
        ) from error
