"""What a study found, as values, tables and the text of a recipe file.

Knows nothing of engines, Ray or file locations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pyarrow as pa
import yaml
from optuna.trial import FrozenTrial

from orchestrator.report.intervals import bootstrap_mean
from orchestrator.search.ledger import Search
from orchestrator.tuning.study import RESULTS_OF_SEARCHES, RecipeStudy, key_of, mean_capacity
from orchestrator.tuning.tuner import BUDGET, FINALS, REPORTED, ModelTuner
from tasks.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two recipes on the same texts, from the same starts."""

    texts: int
    own: float
    """Mean tokens with the sweep's own recipe."""
    tuned: float
    """Mean tokens with the recipe that was found."""
    interval: tuple[float, float] | None
    """95 % interval of the mean difference, tuned minus own, bootstrapped over texts; None for one text."""

    @property
    def difference(self) -> float:
        """Tuned minus own, in tokens."""
        return self.tuned - self.own

    @property
    def verdict(self) -> str:
        """Whether the difference is a gain, in words."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "within chance"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """The result of tuning one model."""

    model: str
    budget: int
    """Trained tokens of each length search."""
    own: Mapping[str, Any]
    """The sweep's own recipe."""
    recipe: Mapping[str, Any]
    """The best one; the sweep's own where no other was better."""
    changed: tuple[str, ...]
    """Fields of `recipe` that differ from the sweep's own."""
    choosing: Paired
    """On the texts it was chosen on, mean of both measurements of a finalist: a gain here is partly luck."""
    reporting: Paired
    """On texts it was not chosen on."""
    study: RecipeStudy


def result_of(tuner: ModelTuner) -> TuningResult | None:
    """The result of a finished study; None while a measurement is missing."""
    if tuner.study.attribute(REPORTED) is None or tuner.study.attribute(FINALS) is None:
        return None
    recipe, split = tuner.best(), tuner.split
    if any(len(tuner.reached(REPORTED, one)) < len(split.reporting) for one in (recipe, tuner.recipe)):
        return None
    return TuningResult(
        model=tuner.model,
        budget=tuner.study.attribute(BUDGET),
        own=tuner.recipe,
        recipe=recipe,
        changed=tuple(name for name, value in recipe.items() if value != tuner.recipe[name]),
        choosing=_paired(split.choosing, _chosen_by(tuner, tuner.recipe), _chosen_by(tuner, recipe)),
        reporting=_paired(split.reporting, tuner.reached(REPORTED, tuner.recipe), tuner.reached(REPORTED, recipe)),
        study=tuner.study,
    )


def _chosen_by(tuner: ModelTuner, recipe: Mapping[str, Any]) -> dict[str, float]:
    """search_id -> mean tokens of the trial and the second measurement."""
    second = tuner.reached(FINALS, recipe)
    same = [t for t in tuner.study.complete if key_of(tuner.study.recipe_of(t.params)) == key_of(recipe)]
    first = (
        {search_id: capacity for search_id, capacity, *_ in same[0].user_attrs[RESULTS_OF_SEARCHES]} if same else second
    )
    return {search_id: fmean((first[search_id], capacity)) for search_id, capacity in second.items()}


def _paired(searches: Sequence[Search], own: Mapping[str, float], tuned: Mapping[str, float]) -> Paired:
    differences = [tuned[search.search_id] - own[search.search_id] for search in searches]
    texts = [search.sample_id for search in searches]
    return Paired(
        texts=len(set(texts)),
        own=fmean(own[search.search_id] for search in searches),
        tuned=fmean(tuned[search.search_id] for search in searches),
        interval=bootstrap_mean(differences, texts),
    )


def trial_rows(model: str, study: RecipeStudy) -> list[dict[str, Any]]:
    """One row per trial, in whatever state it is."""
    return [_row(model, study, trial) for trial in study.study.get_trials(deepcopy=False)]


def _row(model: str, study: RecipeStudy, trial: FrozenTrial) -> dict[str, Any]:
    reached: Sequence[Sequence[Any]] = trial.user_attrs.get(RESULTS_OF_SEARCHES, [])
    return {
        "model": model,
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": mean_capacity(reached) if reached else None,
        "searches": len(reached),
        "trained_tokens": sum(tokens for _, _, tokens, _ in reached),
        "seconds": sum(seconds for *_, seconds in reached),
        **(study.recipe_of(trial.params) if trial.params else {}),
    }


def trials_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as an Arrow table; fields of the recipe keep their names."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def evidence_line(paired: Paired) -> str:
    """The evidence in one line."""
    interval = "" if paired.interval is None else f" [{paired.interval[0]:+.2f}, {paired.interval[1]:+.2f}]"
    return (
        f"{paired.tuned:.2f} tokens, {paired.own:.2f} with the sweep's own recipe: "
        f"{paired.difference:+.2f}{interval} a text, {counted(paired.texts, 'text')}"
    )


def recipe_yaml(found: TuningResult) -> str:
    """The field `recipe` of a sweep file, with its evidence as comments."""
    no_better = "none of the recipes tried is better than the sweep's own, which is this one."
    lines = [
        f"`capsweep tune` for {found.model}: {counted(len(found.study.results), 'recipe')}, each length search with "
        f"{counted(found.budget, 'trained token')}.",
        f"on the texts it was chosen on: {evidence_line(found.choosing)}",
        f"on other texts: {evidence_line(found.reporting)}, {found.reporting.verdict}"
        if found.changed
        else f"on other texts: {found.reporting.own:.2f} tokens, {counted(found.reporting.texts, 'text')}; {no_better}",
    ]
    # Each line becomes a comment: a model's name may contain line breaks.
    comments = [f"# {part}" for line in lines for part in line.splitlines()]
    return "\n".join([*comments, yaml.safe_dump({"recipe": dict(found.recipe)}, sort_keys=False)])
