"""One Optuna study: the recipes tried for one model, and their results. The journal on disk is its only state.

Knows nothing of engines, Ray or pages.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from orchestrator.execution.recipe_worker import SearchResult
from orchestrator.report.intervals import bootstrap_mean
from orchestrator.tuning.journal import open_journal
from tasks.facts import Range

RESULTS = (TrialState.COMPLETE, TrialState.PRUNED)
RANDOM_TRIALS = 8
"""Recipes drawn at random before the sampler (TPE) uses their results."""
DIGITS = 3
"""Significant digits of a value that is tried; finer differences are far below the noise."""
RESULTS_OF_SEARCHES, INPUTS = "reached", "inputs"


class PairedPruner(optuna.pruners.BasePruner):
    """Prunes a trial once the 95 % interval of its paired difference to the best trial lies below zero.

    Texts differ by more than recipes do, and all trials share texts and starts: pairing cancels the differences between
    texts, which a median pruner does not. (Optuna's WilcoxonPruner pairs too, but needs scipy.)
    """

    FEWEST = 6
    """Fewest texts to prune by: a bootstrap over fewer gives too narrow an interval."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts`: the text of the length search at each step."""
        self._texts = texts

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to end this trial."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            return False
        best = max(complete, key=lambda other: other.value or 0.0).intermediate_values
        both = [step for step in trial.intermediate_values if step in best]
        if len({self._texts[step] for step in both}) < self.FEWEST:
            return False
        differences = [trial.intermediate_values[step] - best[step] for step in both]
        interval = bootstrap_mean(differences, [self._texts[step] for step in both])
        return interval is not None and interval[1] < 0


class RecipeStudy:
    """The trials of one model."""

    def __init__(
        self,
        folder: Path,
        model: str,
        *,
        recipe: Mapping[str, Any],
        ranges: Mapping[str, Range],
        texts: Sequence[str],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the study, or begin it with the sweep's own recipe as its first trial.

        Args:
            folder: Folder of the journal.
            model: Name of the model, and of the study.
            recipe: The sweep's own recipe, every field.
            ranges: Ranges of the fields that may change.
            texts: The text of each length search for choosing, in order.
            check: Raises when this session must not write any more; called before every write.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", ExperimentalWarning)
        self._recipe = dict(recipe)
        self._distributions = {name: _distribution(given, recipe[name]) for name, given in ranges.items()}
        self.study = optuna.create_study(
            storage=open_journal(folder, check),
            study_name=model,
            direction="maximize",
            pruner=PairedPruner(texts),
            load_if_exists=True,
        )
        if not self.study.trials:
            self._enqueue({name: recipe[name] for name in ranges})
        for left in self.study.get_trials(states=(TrialState.RUNNING,)):  # left by a session that was killed
            self._put_back(left.number, left.params)

    def attribute(self, name: str) -> Any:
        """The value noted under this name; None if there is none."""
        return self.study.user_attrs.get(name)

    def note(self, name: str, value: Any) -> None:
        """Note a value beside the trials; it is on disk when this returns."""
        self.study.set_user_attr(name, value)

    @property
    def results(self) -> list[FrozenTrial]:
        """Trials that were measured, completely or until they were pruned."""
        return self.study.get_trials(deepcopy=False, states=RESULTS)

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials that were measured completely, best first."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted(found, key=lambda trial: (-(trial.value or 0.0), trial.number))

    def ask(self) -> Trial:
        """The next trial; its recipe depends only on the trials before it."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = TPESampler(
            seed=number, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
        )
        return self.study.ask(self._distributions)

    def recipe_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe of a trial, every field."""
        tried = {
            name: value
            if isinstance(value, int) or value == self._recipe[name]
            else type(self._recipe[name])(f"{value:.{DIGITS}g}")
            for name, value in params.items()
        }
        return {**self._recipe, **tried}

    def report(self, trial: Trial, first: int, reached: Sequence[SearchResult]) -> bool:
        """Note the results of length searches, numbered from `first`; returns whether to prune the trial."""
        for step, one in enumerate(reached, first):
            trial.report(one.capacity, step)
        known = trial.user_attrs.get(RESULTS_OF_SEARCHES, [])
        results = [[one.search_id, one.capacity, one.trained_tokens, one.seconds] for one in reached]
        trial.set_user_attr(RESULTS_OF_SEARCHES, [*known, *results])
        return trial.should_prune()

    def end(self, trial: Trial, *, pruned: bool) -> None:
        """End the trial, and record its result."""
        if pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, mean_capacity(trial.user_attrs[RESULTS_OF_SEARCHES]))

    def put_back(self, trial: Trial) -> None:
        """Mark a trial that was cut short as failed, and enqueue its recipe again."""
        self._put_back(trial.number, trial.params)

    def _put_back(self, number: int, params: Mapping[str, Any]) -> None:
        self.study.tell(number, state=TrialState.FAIL)
        self._enqueue(params)

    def _enqueue(self, params: Mapping[str, Any]) -> None:
        self.study.enqueue_trial(dict(params), skip_if_exists=False)


def mean_capacity(reached: Sequence[Sequence[Any]]) -> float:
    """Mean tokens proven in the results that `RecipeStudy.report` noted."""
    return sum(capacity for _, capacity, _, _ in reached) / len(reached)


def key_of(recipe: Mapping[str, Any]) -> str:
    """A recipe as a key of a mapping."""
    return json.dumps(dict(recipe), sort_keys=True)


def _distribution(given: Range, own: float) -> BaseDistribution:
    """The range in Optuna's form, widened to the sweep's own value: that recipe is a trial, too."""
    low, high = min(given.low, own), max(given.high, own)
    if given.whole:
        return IntDistribution(int(low), int(high), log=given.log and low > 0)
    return FloatDistribution(low, high, log=given.log and low > 0)
