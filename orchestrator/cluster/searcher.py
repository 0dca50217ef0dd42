"""The binary search as a Ray Tune searcher: each suggestion is an assignment of probes.

Tune asks for trials and reports their results; the ledger decides. What Tune itself remembers is disposable: a new
session folds the rows on disk into a new ledger and starts a new Tuner.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.tune.search import Searcher

from orchestrator.cluster.assignment import Assignment
from orchestrator.cluster.engine_handle import EngineHandle
from orchestrator.cluster.engine_pool import EnginePool
from orchestrator.cluster.metrics import RunMetrics
from orchestrator.cluster.trial_sizing import (
    EngineOccupancy,
    most_trials,
    new_trial_size,
    top_up_size,
    trials_per_engine,
    trials_running,
)
from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session, make_probe
from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger
from orchestrator.search.policy import MACHINE_FAILURES
from orchestrator.store.probe_columns import verdict_of
from tasks.values import Probe

LOADING_SECONDS = 0.5
"""Longest single wait for the first engine: a signal is handled between two waits."""


def _cause(fault: Exception) -> Exception:
    """What an actor raised, without the traceback that Ray makes its message of."""
    return fault.cause if isinstance(fault, RayTaskError) and isinstance(fault.cause, Exception) else fault


class LedgerSearcher(Searcher):
    """Suggests assignments from the ledger and folds what their trials report into it."""

    def __init__(
        self,
        session: Session,
        pool: EnginePool,
        recorder: Any,
        *,
        probes_per_trial: int | None,
        stop: Stop,
        on_verdicts: Callable[[Sequence[Verdict]], None],
        on_engines: Callable[[Sequence[EngineProgress]], None],
    ) -> None:
        """See `RayExecutor`; `probes_per_trial` None chooses by the engine."""
        super().__init__(metric="left", mode="min")
        self._session = session
        self._pool = pool
        self._recorder = recorder
        self._probes_per_trial = probes_per_trial
        self._stop = stop
        self._on_verdicts = on_verdicts
        self._on_engines = on_engines
        self._most_running = 1
        """Trials that run at a time, where the cluster was largest: a process serves only trials that ask the same."""
        self._metrics = RunMetrics(run=session.plan.sweep.name)
        self._assignments: dict[str, Assignment] = {}
        """By trial id."""
        self._lost_trials: deque[Assignment] = deque()
        """Assignments whose trial was lost: their engine continues, and another trial must follow them."""
        self._numbers = count()
        self.fault: Exception | None = None
        """What ended the session early; None if nothing did."""

    @property
    def _ledger(self) -> Ledger:
        return self._session.ledger

    @property
    def _num_engines(self) -> int:
        return max(self._pool.num_wanted, len(self._pool.engines))

    @property
    def _trials_per_engine(self) -> int:
        return trials_per_engine(num_engines=self._num_engines, num_wanted=self._pool.num_wanted)

    def _load_of(self, engine: EngineHandle) -> EngineOccupancy:
        return EngineOccupancy(
            num_slots=engine.num_slots,
            in_flight=engine.in_flight,
            num_trials=sum(assignment.engine is engine for assignment in self._assignments.values()),
            num_ready=self._ledger.num_ready(engine.model),
            share=self._pool.share(engine.model),
        )

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """How many assignments are in flight is this searcher's own affair."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next assignment; None while there is nothing to ask, FINISHED when there never will be."""
        if self._stop or self.fault is not None or self._ledger.num_open == 0:
            return Searcher.FINISHED
        try:
            return self._next_assignment(trial_id)
        except Exception as fault:
            # Tune would end in a traceback of its own; the runner raises it once everything is put away.
            self.fault = _cause(fault)
            return Searcher.FINISHED

    def _tend(self) -> None:
        """Look after the engines now and then, and report how things stand."""
        if not self._pool.tend():
            return
        pool = self._pool
        self._on_engines(pool.progress())
        self._metrics.export(
            self._ledger,
            ready=len(pool.ready),
            loading=sum(engine.loading is not None for engine in pool.engines),
            wanted=pool.num_wanted,
            restarts=pool.num_restarts,
        )

    def _next_assignment(self, trial_id: str) -> dict[str, Any] | None:
        self._tend()
        if self._lost_trials:
            assignment = self._lost_trials.popleft()
            self._assignments[trial_id] = assignment
            return self._config(assignment)
        if not self._assignments:
            # Tune asks again in a second; with no other report to expect, wait here instead.
            self._pool.wait_ready(LOADING_SECONDS)
        self._pool.expect()
        if self._stop or len(self._assignments) >= most_trials(self._num_engines):
            return None
        for engine in sorted(self._pool.ready, key=lambda engine: engine.in_flight / engine.num_slots):
            size = new_trial_size(
                self._load_of(engine), per_engine=self._trials_per_engine, probes_per_trial=self._probes_per_trial
            )
            if size:
                assignment = Assignment(assignment_id=trial_id, number=next(self._numbers), engine=engine)
                probes = self._take_probes(size, assignment)
                self._assignments[trial_id] = assignment
                self._recorder.stage.remote(trial_id, probes)
                return self._config(assignment)
        return None

    def _config(self, assignment: Assignment) -> dict[str, Any]:
        self._most_running = max(self._most_running, trials_running(self._num_engines))
        return assignment.config(most_running=self._most_running)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Some probes of an assignment have finished, and their rows are on disk."""
        if (assignment := self._assignments.get(trial_id)) is not None and "num_slots" in result:
            assignment.engine.num_slots = result["num_slots"]
        self._fold(trial_id, [Verdict(**fields) for fields in result.get("verdicts", [])])
        try:
            self._tend()
            if assignment is not None and result.get("left"):
                self._top_up(assignment)
        except Exception as fault:
            self.fault = _cause(fault)

    def _top_up(self, assignment: Assignment) -> None:
        """Give a running trial more probes, where its engine has free slots and no further trial may start."""
        engine = assignment.engine
        if engine.leaves or self._stop or self.fault is not None:
            return
        size = top_up_size(
            self._load_of(engine), per_engine=self._trials_per_engine, probes_per_trial=self._probes_per_trial
        )
        probes = self._take_probes(size, assignment)
        if probes:
            # The trial claims them at its next step, which Tune begins after this.
            ray.get(self._recorder.stage.remote(assignment.assignment_id, probes))

    def _take_probes(self, most: int, assignment: Assignment) -> list[Probe]:
        """The next probes of the ledger for this assignment's engine, now of this assignment."""
        orders = self._ledger.next_orders(assignment.engine.model, most)
        # Memories of warm starts are the recorder's: they never pass through the driver.
        probes = {order.probe_id: make_probe(self._session.plan, order) for order in orders}
        assignment.probes.update(probes)
        assignment.engine.in_flight += len(probes)
        return list(probes.values())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial is over. Its assignment is, too, unless the machine lost the trial."""
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        assignment = self._assignments.pop(trial_id, None)
        if assignment is None:
            return
        try:
            if assignment.probes and not self._stop and self.fault is None:
                self._recover(assignment)
            else:
                self._leave(assignment)
        except Exception as fault:
            self.fault = _cause(fault)
            self._leave(assignment)

    def _recover(self, assignment: Assignment) -> None:
        """See to it that probes whose trial was lost, or ended without them, get their verdicts."""
        unwritten: Exception | None = ray.get(self._recorder.fault.remote())
        if unwritten is not None:
            raise unwritten
        assignment.losses += 1
        why = self._pool.why_lost(assignment.engine)
        if why is None and assignment.losses < MACHINE_FAILURES:
            self._lost_trials.append(assignment)
            return
        # Rows may have been written between two reports.
        recorded: list[Verdict] = ray.get(self._recorder.recorded.remote(list(assignment.probes)))
        failed = assignment.failed(why, known={verdict.probe_id for verdict in recorded}, now=time.time())
        ray.get(self._recorder.record.remote(failed))
        assignment.probes.clear()
        self._leave(assignment)
        self._record_verdicts([*recorded, *map(verdict_of, failed)])

    def _leave(self, assignment: Assignment) -> None:
        """Nothing more is expected of an assignment; what it has no verdict on goes back."""
        assignment.engine.in_flight -= len(assignment.probes)
        self._ledger.give_back(probe.search_id for probe in assignment.probes.values())
        assignment.probes.clear()
        if not self._stop and self.fault is None:
            assignment.engine.actor.forget.remote(assignment.assignment_id)
            self._recorder.release.remote(assignment.assignment_id)

    def _fold(self, trial_id: str, verdicts: Sequence[Verdict]) -> None:
        assignment = self._assignments.get(trial_id)
        if assignment is None:
            return
        fresh = [verdict for verdict in verdicts if assignment.probes.pop(verdict.probe_id, None) is not None]
        assignment.engine.in_flight -= len(fresh)
        self._record_verdicts(fresh)

    def _record_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._ledger.record(verdict)
        if verdicts:
            # Also here: Tune asks for no suggestion while all trials that may run do.
            self._pool.expect()
            if any(verdict.outcome != "failed" for verdict in verdicts):
                self._pool.losses = 0
            self._metrics.count(verdicts)
            self._on_verdicts(verdicts)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles searchers to restore them, and the rows on disk are the only state here."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""
