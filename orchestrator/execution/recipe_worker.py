"""Measures a recipe: runs length searches of a plan, each with the same budget, in an engine with that recipe.

Knows nothing of trials, Optuna or Ray.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.execution.inline import LoopCallbacks, run_searches
from orchestrator.execution.same_model import refuse_other_model
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.runs.session import make_probe
from orchestrator.search.ledger import Ledger, Order
from tasks.contract import Engine
from tasks.values import COLD, EngineSettings, Failed, Finished, Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRequest:
    """Length searches to run with one recipe."""

    model: str
    """The model's name in the plan."""
    recipe: Mapping[str, Any]
    """The recipe, every field."""
    search_ids: tuple[str, ...]
    budget: int | None
    """Trained tokens of each length search; None: those of the sweep."""
    again: int = 0
    """Selects the random starts, which all recipes share: 0 the first ones, another number others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The result of one length search."""

    search_id: str
    capacity: int
    """Tokens proven."""
    trained_tokens: int
    """Sum, over its optimizer steps, of the tokens trained on."""
    seconds: float
    """Its probes' share of the engine's time."""


class Workers(Protocol):
    """Workers that measure recipes side by side."""

    size: int
    """Number of workers."""

    def submit(self, worker: int, request: MeasurementRequest) -> None:
        """Give a request to a worker that has none."""
        ...

    def wait(self) -> tuple[int, tuple[SearchResult, ...]] | None:
        """A worker that has finished its request, and the results; None once the session should end."""
        ...


class Worker:
    """Holds one engine at a time; consecutive requests with the same model and recipe share it."""

    def __init__(self, plan: Plan, settings: EngineSettings) -> None:
        self._plan = plan
        self._settings = settings
        self._searches = {search.search_id: search for search in plan.searches}
        self._opened: tuple[tuple[str, Mapping[str, Any]], Engine] | None = None

    def measure(self, request: MeasurementRequest, stop: Stop) -> tuple[SearchResult, ...] | None:
        """The results of the request's searches, in their order; None if `stop` became true before all had finished."""
        retries = self._plan.sweep.search.retries
        settings = replace(self._plan.sweep.search_settings(), retries=retries, max_trained_tokens=request.budget)
        ledger = Ledger([self._searches[search_id] for search_id in request.search_ids], settings)
        notes = _Notes(self._plan, request)
        callbacks = LoopCallbacks(make_probe=notes.make, record=notes.record)
        run_searches(ledger, request.model, self._engine(request), callbacks, stop=stop)
        if ledger.num_open:
            self._opened = None  # its slots hold probes of this request
            return None
        return tuple(
            SearchResult(
                search_id=search_id,
                capacity=ledger.bracket(search_id).proven,
                trained_tokens=ledger.bracket(search_id).trained_tokens,
                seconds=notes.seconds[search_id],
            )
            for search_id in request.search_ids
        )

    def _engine(self, request: MeasurementRequest) -> Engine:
        key = (request.model, request.recipe)
        if self._opened is None or self._opened[0] != key:
            self._opened = None  # frees its device memory before the next engine loads
            planned, task = self._plan.model(request.model), self._plan.task
            refuse_other_model(task, planned.model, planned.facts.fingerprint)
            recipe = task.examine(planned.model, planned.facts, request.recipe).recipe
            question = replace(self._plan.question, recipe=recipe)
            self._opened = key, task.open_engine(planned.model, question, self._settings)
        return self._opened[1]


class _Notes:
    """The memories and times of one request, kept in this process only."""

    def __init__(self, plan: Plan, request: MeasurementRequest) -> None:
        self._plan = plan
        self._again = request.again
        self._memories: dict[str, bytes | None] = {}
        self.seconds = dict.fromkeys(request.search_ids, 0.0)

    def make(self, order: Order) -> Probe:
        """The probe, with the memory it begins from. Its id seeds its random numbers: all trials share it."""
        probe = make_probe(self._plan, order)
        probe = replace(probe, probe_id=f"{probe.probe_id}/{self._again}" if self._again else probe.probe_id)
        return probe if probe.start == COLD else replace(probe, start_memory=self._memories[probe.start])

    def record(self, finished: Sequence[Finished]) -> None:
        """Keep their memories, and add up their times."""
        for item in finished:
            if not isinstance(item.outcome, Failed):
                self._memories[item.probe.probe_id] = item.outcome.measurement.memory
                self.seconds[item.probe.search_id] += item.outcome.measurement.seconds


class InlineWorkers:
    """One worker, in this process."""

    size = 1

    def __init__(self, plan: Plan, settings: EngineSettings, stop: Stop) -> None:
        self._worker = Worker(plan, settings)
        self._stop = stop
        self._request: MeasurementRequest | None = None

    def submit(self, worker: int, request: MeasurementRequest) -> None:
        """Remember the request; `wait` runs it."""
        self._request = request

    def wait(self) -> tuple[int, tuple[SearchResult, ...]] | None:
        """Run the request."""
        assert self._request is not None, "wait before submit"
        reached = self._worker.measure(self._request, self._stop)
        return None if reached is None else (0, reached)
