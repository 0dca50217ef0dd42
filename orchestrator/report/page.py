"""The report of a run: one HTML page that needs nothing but a browser.

Knows nothing of run directories: takes tables and text, returns text.
"""

import base64
import gzip
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from orchestrator.report.comparison import compare
from orchestrator.report.details import search_details
from orchestrator.report.facts import facts
from orchestrator.report.figures.all_figures import figures
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.findings import headline, worth_knowing
from orchestrator.report.papers import PUBLISHED_SETS
from orchestrator.report.published_measures import decoding_capacities
from orchestrator.report.statistics import starts_by_group, survival_by_group
from orchestrator.report.tables import beginning, capacity_by_group, search_rows, short_names

MANY_ENTRIES = 9
"""A figure with more legend entries than this takes the page's whole width."""
TALL_PIXELS = 600
"""A figure taller than this takes the page's whole width: the card of a figure beside it would be mostly empty."""
STATUS_WORDS = {
    "measured": "measured",
    "at_text_end": "text ended",
    "at_max_length": "max_length",
    "at_model_limit": "model's limit",
    "failed": "failed",
    "open": "open",
}


def render_page(tables: ReportTables, *, sweep_yaml: str, provenance: Mapping[str, Any]) -> str:
    """The page as one string of HTML that holds styles, script, figures and data, and fetches nothing.

    Args:
        tables: Tables of one run, or of several together, without duplicates.
        sweep_yaml: The resolved sweep file, or several.
        provenance: Versions, hardware and sessions; nested values are shown as JSON.
    """
    searches = tables.searches
    groups = capacity_by_group(searches)
    survival, starts = survival_by_group(searches), starts_by_group(tables.probes)
    drawn = figures(tables)
    rows = search_rows(searches, tables.samples)
    compared = [
        (paper, compare(tables.probes, searches, paper), published.footnotes)
        for paper, published in PUBLISHED_SETS.items()
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "beginning": beginning, "breakable": _breakable}
    return environment.from_string(resource("page.html.j2")).render(
        style=Markup(resource("page.css")),
        script=Markup(resource("page.js")),
        # The Python package of plotly ships only this bundle, 4.8 MB: left out if nothing is drawn.
        plotly_js=packed(get_plotlyjs()) if drawn else None,
        details=packed(json.dumps(search_details(tables, rows), ensure_ascii=False, separators=(",", ":"))),
        name=_name_of(sweep_yaml),
        file_name=re.sub(r"[^A-Za-z0-9]+", "-", _name_of(sweep_yaml)).strip("-")[:60] or "run",
        headline=headline(searches, tables.samples),
        facts=facts(tables.probes, provenance),
        remarks=worth_knowing(tables.probes, searches),
        groups=[
            (group, survival.get(key := (group.model, group.source, group.num_vectors)), starts.get(key))
            for group in groups
        ],
        decoding=decoding_capacities(tables.probes, searches),
        has_gains=any(group.token_gain for group in groups),
        compared=[part for part in compared if part[1]],
        tall=TALL_PIXELS,
        many=MANY_ENTRIES,
        figures=[(figure, embedded(figure.figure)) for figure in drawn],
        searches=rows,
        num_probes=tables.probes.num_rows,
        unfinished=any(group.num_open or group.num_failed for group in groups),
        models=short_names(searches["model"].to_pylist()),
        status_words=STATUS_WORDS,
        sweep_yaml=sweep_yaml,
        provenance=[(key, _shown(value)) for key, value in provenance.items()],
    )


def resource(name: str, package: str = "orchestrator.report") -> str:
    """The text of a file of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _name_of(sweep_yaml: str) -> str:
    """The sweep's name, from the first line `name: ..` without indentation."""
    names = [line.partition(":")[2].strip(" '\"") for line in sweep_yaml.splitlines() if line.startswith("name:")]
    return names[0] if names and names[0] else "capsweep run"


def packed(text: str) -> Markup:
    """Text for a <script type="application/gzip">, a fifth as large; the page's script unpacks it."""
    # No timestamp: the same tables give the same page.
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def embedded(figure: go.Figure) -> Markup:
    """JSON for a <script type="application/json">: without `<` no text can end that element."""
    return Markup(str(figure.to_json(engine="json")).replace("<", "\\u003c"))


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _breakable(name: str) -> Markup:
    """A name that the browser may break after separators."""
    return Markup("<wbr>").join(re.split(r"(?<=[/:#_])", name))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
