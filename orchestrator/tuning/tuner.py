"""Tunes the recipe of one model in four steps: budget, trials, finalists, evidence.

Each step yields requests and receives their results; the caller decides where they are answered. Results are noted in
the study before the next step, so that a later session continues where this one ended.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from orchestrator.execution.recipe_worker import MeasurementRequest, SearchResult, Workers
from orchestrator.search.ledger import Search
from orchestrator.tuning.study import RecipeStudy, key_of
from orchestrator.tuning.texts import TextSplit
from tasks.wording import counted

PART = 16
"""Length searches that are measured before a trial may be pruned: fewer leave most of an engine's step idle."""
FINALISTS = 3
"""Best trials that are measured again, from other starts, beside the sweep's own recipe: the best of many noisy means
is best partly by luck."""
BUDGET, FINALS, REPORTED = "budget", "finals", "reported"

Asking = Generator[MeasurementRequest, tuple[SearchResult, ...], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTuner:
    """What one model's trials have in common."""

    model: str
    recipe: Mapping[str, Any]
    """The sweep's own recipe, every field."""
    split: TextSplit
    study: RecipeStudy
    on_message: Callable[[str], None]

    def measure_budget(self) -> Iterator[Asking]:
        """Measure what a length search spends with the sweep's own recipe, unless the study has a budget."""
        if self.study.attribute(BUDGET) is None:
            yield self._budget()

    def try_recipes(self, trials: int) -> Iterator[Asking]:
        """Run as many trials as the study still lacks."""
        for _ in range(trials - len(self.study.results)):
            yield self._trial(trials)

    def measure_finalists(self) -> Iterator[Asking]:
        """Measure the best trials and the sweep's own recipe, from other starts."""
        for recipe in self.finalists():
            yield from self._measure(FINALS, recipe, self.split.choosing, again=1)

    def measure_evidence(self) -> Iterator[Asking]:
        """Measure the best recipe and the sweep's own on texts they were not chosen on."""
        for recipe in {key_of(recipe): recipe for recipe in (self.recipe, self.best())}.values():
            yield from self._measure(REPORTED, recipe, self.split.reporting, again=0)

    def finalists(self) -> list[Mapping[str, Any]]:
        """The sweep's own recipe and those of the best trials."""
        best = [self.study.recipe_of(trial.params) for trial in self.study.complete[:FINALISTS]]
        return list({key_of(recipe): recipe for recipe in (self.recipe, *best)}.values())

    def best(self) -> Mapping[str, Any]:
        """The finalist with the highest mean of both measurements."""
        first = {key_of(self.study.recipe_of(trial.params)): trial.value or 0.0 for trial in self.study.complete}
        finals = self.study.attribute(FINALS) or {}

        def mean(recipe: Mapping[str, Any]) -> float:
            key = key_of(recipe)
            return first.get(key, 0.0) + fmean(finals[key].values())

        return max(self.finalists(), key=mean)

    def reached(self, what: str, recipe: Mapping[str, Any]) -> dict[str, int]:
        """search_id -> tokens with this recipe, as noted under `what` (FINALS or REPORTED)."""
        return (self.study.attribute(what) or {}).get(key_of(recipe), {})

    def _budget(self) -> Asking:
        searches = tuple(search.search_id for search in self.split.choosing[:PART])
        reached = yield MeasurementRequest(model=self.model, recipe=self.recipe, search_ids=searches, budget=None)
        budget = round(fmean(one.trained_tokens for one in reached))
        self.study.note(BUDGET, max(1, budget))
        self.on_message(f"budget: {budget:,} trained tokens per length search, as spent with the sweep's own recipe")

    def _trial(self, trials: int) -> Asking:
        trial = self.study.ask()
        recipe, budget = self.study.recipe_of(trial.params), self.study.attribute(BUDGET)
        known: list[SearchResult] = []
        try:
            for part in _parts(self.split.choosing):
                reached = yield MeasurementRequest(model=self.model, recipe=recipe, search_ids=part, budget=budget)
                pruned = self.study.report(trial, len(known), reached)
                known += reached
                if pruned:
                    break
        except BaseException:
            # Includes GeneratorExit, raised when the session ends and closes this generator.
            self.study.put_back(trial)
            raise
        whole = len(known) == len(self.split.choosing)
        self.study.end(trial, pruned=not whole)
        mean = fmean(one.capacity for one in known)
        ended = "" if whole else f", pruned after {counted(len(known), 'length search')}"
        self.on_message(f"trial {trial.number}: {mean:.2f} tokens{ended} ({len(self.study.results)} of {trials})")

    def _measure(
        self, what: str, recipe: Mapping[str, Any], searches: Sequence[Search], again: int
    ) -> Iterator[Asking]:
        known = self.reached(what, recipe)
        for part in _parts(searches):
            if not set(part) <= known.keys():
                yield self._measure_part(what, recipe, part, again)

    def _measure_part(self, what: str, recipe: Mapping[str, Any], part: tuple[str, ...], again: int) -> Asking:
        budget = self.study.attribute(BUDGET)
        reached = yield MeasurementRequest(model=self.model, recipe=recipe, search_ids=part, budget=budget, again=again)
        capacities = {one.search_id: one.capacity for one in reached}
        noted = self.study.attribute(what) or {}
        self.study.note(what, {**noted, key_of(recipe): {**noted.get(key_of(recipe), {}), **capacities}})


def _parts(searches: Sequence[Search]) -> list[tuple[str, ...]]:
    """The ids in parts of about PART each, without a small one at the end."""
    count = max(1, round(len(searches) / PART))
    ends = [round(len(searches) * i / count) for i in range(count + 1)]
    ids = [search.search_id for search in searches]
    return [tuple(ids[begin:end]) for begin, end in pairwise(ends)]


def drive(workers: Workers, asking: Iterable[Asking]) -> bool:
    """Let each worker follow one generator at a time; returns whether all of them finished."""
    waiting = iter(asking)
    running: dict[int, Asking] = {}
    with contextlib.ExitStack() as begun:
        while True:
            for worker in set(range(workers.size)) - running.keys():
                if (one := next(waiting, None)) is not None:
                    begun.callback(one.close)
                    running[worker] = one
                    workers.submit(worker, next(one))
            if not running:
                return True
            if (done := workers.wait()) is None:
                return False
            worker, reached = done
            try:
                workers.submit(worker, running[worker].send(reached))
            except StopIteration:
                del running[worker]


def tune_model(tuner: ModelTuner, workers: Workers, *, trials: int) -> bool:
    """Run all steps; returns whether all of them finished."""
    steps: Sequence[Callable[[], Iterator[Asking]]] = (
        tuner.measure_budget,
        lambda: tuner.try_recipes(trials),
        tuner.measure_finalists,
        tuner.measure_evidence,
    )
    return all(drive(workers, step()) for step in steps)
