"""The page of a tuning: evidence, recipe, trials and Optuna's own figures; needs nothing but a browser.

Knows nothing of folders or engines.
"""

import logging
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from optuna import visualization
from optuna.study import Study
from plotly.offline import get_plotlyjs

from orchestrator.report.page import embedded, packed, resource
from orchestrator.tuning.results import TuningResult, recipe_yaml, trial_rows
from orchestrator.tuning.tuner import ModelTuner

FIGURES = {
    "plot_optimization_history": (
        "History",
        "Mean tokens of each trial that was not pruned, and the best so far.",
    ),
    "plot_param_importances": (
        "Importances",
        "How much each field contributes to what sets the good trials apart (PED-ANOVA). Rough with few trials.",
    ),
    "plot_slice": (
        "Each field",
        "Mean tokens against the value of one field, while the others vary. Darker points are later trials.",
    ),
    "plot_parallel_coordinate": (
        "All fields together",
        "One line per trial, coloured by its mean tokens.",
    ),
}
"""Optuna function -> title and caption."""
WIDE = ("plot_slice", "plot_parallel_coordinate")
"""Figures with an axis per field: they take the width of the page, and scroll where that is narrow."""
FIGURE_PIXELS = 420
"""Taller than a figure of the report: each stands alone on the width of the page."""
UNIT = "mean tokens"
FEWEST_TRIALS = 3
"""With fewer complete trials, no figure shows anything."""


def render_tune_page(name: str, tuners: Sequence[ModelTuner], found: Sequence[TuningResult]) -> str:
    """The page as one HTML string, with styles, script and figures inside; it fetches nothing.

    Args:
        name: Name of the sweep.
        tuners: One for each model.
        found: Results of the models that are finished.
    """
    models = [_model(tuner, next((one for one in found if one.model == tuner.model), None)) for tuner in tuners]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = _shown
    return environment.from_string(resource("tune.html.j2", "orchestrator.tuning")).render(
        style=Markup(resource("page.css")),
        script=Markup(resource("tune.js", "orchestrator.tuning")),
        plotly_js=packed(get_plotlyjs()) if any(model["figures"] for model in models) else None,
        name=name,
        models=models,
        columns=list(dict.fromkeys(key for model in models for row in model["rows"] for key in row if key != "model")),
    )


def _model(tuner: ModelTuner, found: TuningResult | None) -> dict[str, Any]:
    return {
        "name": tuner.model,
        "found": found,
        "answer": "" if found is None else _answer(found),
        "evidence": [] if found is None else [("chosen on", found.choosing), ("reported on", found.reporting)],
        "recipe": "" if found is None else recipe_yaml(found),
        "rows": trial_rows(tuner.model, tuner.study),
        "figures": _figures(tuner.study.study) if len(tuner.study.complete) >= FEWEST_TRIALS else [],
    }


def _answer(found: TuningResult) -> str:
    if not found.changed:
        return "None of the recipes tried is better than the sweep's own."
    changed = ", ".join(f"{name} {found.recipe[name]}" for name in found.changed)
    paired = found.reporting
    more = f"{abs(paired.difference):.2f} tokens {'more' if paired.difference >= 0 else 'fewer'} a text"
    if paired.verdict == "better":
        return f"Better than the sweep's own: on texts that it was not chosen on, {changed} proves {more}."
    return f"Not shown to be better than the sweep's own: on texts that it was not chosen on, {changed} proves {more}."


def _figures(study: Study) -> list[dict[str, Any]]:
    # Optuna warns about trials without a value, and pruned trials have none.
    logging.getLogger("optuna").setLevel(logging.ERROR)
    drawn: list[dict[str, Any]] = []
    for function, (title, caption) in FIGURES.items():
        figure: go.Figure = getattr(visualization, function)(study, target_name=UNIT)
        figure.update_layout(
            title=None,
            width=None,
            template="none",
            height=FIGURE_PIXELS,
            margin={"t": 40, "r": 30},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
        )
        figure.update_yaxes(automargin=True, title_standoff=12)
        drawn.append({"title": title, "caption": caption, "json": embedded(figure), "wide": function in WIDE})
    return drawn


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
