"""The binary search as a Ray Tune searcher: each suggestion is an assignment of probes.

Tune asks for trials and reports their results; the ledger decides. Tune's own state is disposable: a new session folds
the rows on disk into a new ledger and starts a new Tuner.
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
"""Longest single wait for an engine to load: signals are handled between two waits."""


def _cause(fault: Exception) -> Exception:
    """The exception that an actor raised, without the traceback that Ray puts into its message."""
    return fault.cause if isinstance(fault, RayTaskError) and isinstance(fault.cause, Exception) else fault


class LedgerSearcher(Searcher):
    """Suggests assignments from the ledger, and folds the verdicts that trials report into it."""

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
        on_snapshot_faults: Callable[[str | None], None],
    ) -> None:
        """See `RayExecutor`; with `probes_per_trial` None, the number depends on the engine."""
        super().__init__(metric="left", mode="min")
        self._session = session
        self._pool = pool
        self._recorder = recorder
        self._probes_per_trial = probes_per_trial
        self._stop = stop
        self._on_verdicts = on_verdicts
        self._on_engines = on_engines
        self._on_snapshot_faults = on_snapshot_faults
        self._asked_faults: Any = None
        """Reference to the faults of snapshots, which were asked for."""
        self._most_running = 1
        """Most trials that could run at a time so far; kept, as Tune reuses processes only for equal CPU requests."""
        self._metrics = RunMetrics(run=session.plan.sweep.name)
        self._assignments: dict[str, Assignment] = {}
        """By trial id."""
        self._lost_trials: deque[Assignment] = deque()
        """Assignments whose trial was lost: their engine continues, and another trial must follow them."""
        self._numbers = count()
        self.fault: Exception | None = None
        """The error that ended the session early; None if there was none."""

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
        """Return True, so that Tune leaves the number of assignments in flight to this searcher."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next assignment; None while there is none, FINISHED when there will be no more."""
        if self._stop or self.fault is not None or self._ledger.num_open == 0:
            return Searcher.FINISHED
        try:
            return self._next_assignment(trial_id)
        except Exception as fault:
            # Raised here, it would end Tune with a traceback; the executor raises it after all engines are closed.
            self.fault = _cause(fault)
            return Searcher.FINISHED

    def _tend(self) -> None:
        """Tend the engines if that is due, and report their progress."""
        if not self._pool.tend():
            return
        pool = self._pool
        self._on_engines(pool.progress())
        if self._asked_faults is None:
            self._asked_faults = self._recorder.snapshot_faults.remote()
        elif ray.wait([self._asked_faults], timeout=0)[0]:
            self._on_snapshot_faults(ray.get(self._asked_faults))
            self._asked_faults = None
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
            # With no trial running, Tune asks again only after a second: wait for an engine here instead.
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
        """Record the verdicts of probes that have finished; their rows are on disk."""
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
        """Give a running trial more probes if its engine has free slots and no further trial may start."""
        engine = assignment.engine
        if engine.leaves or self._stop or self.fault is not None:
            return
        size = top_up_size(
            self._load_of(engine), per_engine=self._trials_per_engine, probes_per_trial=self._probes_per_trial
        )
        probes = self._take_probes(size, assignment)
        if probes:
            # The trial claims them at its next step, which Tune starts after this returns.
            ray.get(self._recorder.stage.remote(assignment.assignment_id, probes))

    def _take_probes(self, most: int, assignment: Assignment) -> list[Probe]:
        """Add the next probes of the ledger for its engine to an assignment, and return them."""
        orders = self._ledger.next_orders(assignment.engine.model, most)
        # The recorder adds the memories of warm starts: they never pass through the driver.
        probes = {order.probe_id: make_probe(self._session.plan, order) for order in orders}
        assignment.probes.update(probes)
        assignment.engine.in_flight += len(probes)
        return list(probes.values())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End the assignment of a trial that is over, or recover it if the machine lost the trial."""
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
        """Get verdicts for probes whose trial was lost or ended without them."""
        unwritten: Exception | None = ray.get(self._recorder.fault.remote())
        if unwritten is not None:
            raise unwritten
        assignment.losses += 1
        why = self._pool.why_lost(assignment.engine)
        if why is None and assignment.losses < MACHINE_FAILURES:
            self._lost_trials.append(assignment)
            return
        # Rows may have been written after the last report of the trial.
        recorded: list[Verdict] = ray.get(self._recorder.recorded.remote(list(assignment.probes)))
        failed = assignment.failed(why, known={verdict.probe_id for verdict in recorded}, now=time.time())
        ray.get(self._recorder.record.remote(failed))
        assignment.probes.clear()
        self._leave(assignment)
        self._record_verdicts([*recorded, *map(verdict_of, failed)])

    def _leave(self, assignment: Assignment) -> None:
        """Drop an assignment; its probes without a verdict go back to the ledger."""
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
            # Also here, because Tune asks for no suggestion while as many trials run as may.
            self._pool.expect()
            if any(verdict.outcome != "failed" for verdict in verdicts):
                self._pool.losses = 0
            self._metrics.count(verdicts)
            self._on_verdicts(verdicts)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles searchers to restore them, but the only state is the rows on disk."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the only state is the rows on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the only state is the rows on disk."""
