"""An engine as a Ray actor: probes of many assignments are slots of one batch.

A thread steps the engine and saves the probes from time to time; calls from trials only queue probes and wait for
those that finish. What a trial was given is kept until it asks again, so that a trial that dies loses nothing. Knows
nothing of searches, files or Tune.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.known_plugins import know
from orchestrator.cluster.metrics import EngineMetrics
from orchestrator.execution.same_model import refuse_other_model
from tasks.plugins import IncludedFile
from tasks.registry import TASKS
from tasks.values import EngineSettings, EngineStats, Finished, Model, Probe, Question, Snapshot

IDLE_SECONDS = 1.0
"""How often an engine without probes notes that it is alive."""
EXPORT_SECONDS = 1.0
"""How often the metrics of an engine are set; Ray exports them every ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an engine is loaded with."""

    run: str
    """Name of the run, for metrics."""
    name: str
    task: str
    model: Model
    fingerprint: str
    """Of the model, where the run was planned."""
    question: Question
    settings: EngineSettings
    snapshot_seconds: float
    """How often probes in flight are saved."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that are set before the model is loaded, such as HF_TOKEN."""
    included: tuple[IncludedFile, ...] = field(default=(), repr=False)
    """Files of --include, in which the task may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What an engine reports about itself."""

    at: float
    """Time of the report, in seconds of its own clock."""
    silent_seconds: float
    """Time since it last took a step, or had none to take."""
    num_slots: int
    """Approximate number of slots that are optimized at a time."""
    num_busy: int
    """Probes that occupy a slot or wait for one."""
    stats: EngineStats
    """What it has done so far."""


@dataclass(slots=True, kw_only=True)
class _Assignment:
    """What the engine knows of one assignment."""

    known: set[str] = field(default_factory=set)
    """probe_ids that were ever submitted."""
    running: set[str] = field(default_factory=set)
    ready: list[Finished] = field(default_factory=list)
    """Finished, not yet given to a trial."""
    taken: list[Finished] = field(default_factory=list)
    """Given to the trial, which has not yet confirmed that they are recorded."""
    turn: int = 0
    """Number of the trial that is served; each new trial of this assignment raises it."""


class EngineActor:
    """One frozen model on one device, serving assignments until it is killed."""

    def __init__(self, model: str) -> None:
        # Ray sets this variable to the GPUs of this process.
        gpus = [f"gpu{number}" for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
        self._model = model
        self._title = f"engine {model.rpartition('/')[2]} {' '.join(gpus) or 'cpu'}"
        self._changed = threading.Condition()
        self._arriving: list[Probe] = []
        self._assignments: dict[str, _Assignment] = {}
        self._assignment_of: dict[str, str] = {}
        """probe_id -> assignment, of probes that are under way."""
        self._fault: BaseException | None = None
        self._paused = False
        self._stats = EngineStats()
        self._num_slots = 1
        self._num_busy = 0
        self._num_open = 0
        self._stepped_at = time.monotonic()

    def __repr__(self) -> str:
        """Its name on the dashboard and in log lines."""
        return self._title

    def load(self, load: EngineLoad, recorder: Any) -> int:
        """Load the model and begin to step; not in the constructor, whose errors reach the driver as a dead actor.

        Args:
            load: The model, the question and the settings.
            recorder: The actor that saves the snapshots.

        Returns:
            Approximate number of slots that are optimized at a time.

        Raises:
            TaskError: when the model cannot be loaded, or is another one on this node.
        """
        # Sent with this call, not with the actor: Ray keeps how an actor is made, and shows a `runtime_env`.
        os.environ.update(load.environment)
        self._load = load
        know(load.included, task=load.task)
        refuse_other_model(TASKS[load.task], load.model, load.fingerprint)
        self._engine = TASKS[load.task].open_engine(load.model, load.question, load.settings)
        self._recorder = recorder
        self._metrics = EngineMetrics(run=load.run, model=self._model, engine=load.name)
        self._num_slots = self._engine.num_slots
        self._stepped_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        return self._num_slots

    def fault(self) -> str | None:
        """The error that broke the engine down; None while it works."""
        return None if self._fault is None else repr(self._fault)

    def report(self) -> EngineReport:
        """The state of the engine."""
        return EngineReport(
            at=time.monotonic(),
            silent_seconds=time.monotonic() - self._stepped_at,
            num_slots=self._num_slots,
            num_busy=self._num_busy,
            stats=self._stats,
        )

    def expect(self, num_open: int) -> None:
        """Set how many searches are left for this engine."""
        self._num_open = num_open

    def submit(self, assignment_id: str, probes: Sequence[Probe], *, anew: bool) -> int:
        """Queue the probes of an assignment that are not yet known.

        Args:
            assignment_id: Assignment of the probes.
            probes: Some of them may have been submitted before.
            anew: Whether a new trial follows this assignment: it is given again what the trial before did not confirm.

        Returns:
            The turn of the trial, which it passes to `take`.
        """
        with self._changed:
            assignment = self._assignments.setdefault(assignment_id, _Assignment())
            fresh = [probe for probe in probes if probe.probe_id not in assignment.known]
            ids = {probe.probe_id for probe in fresh}
            assignment.known |= ids
            assignment.running |= ids
            self._assignment_of.update(dict.fromkeys(ids, assignment_id))
            self._arriving += fresh
            if anew:
                assignment.ready, assignment.taken = [*assignment.taken, *assignment.ready], []
                assignment.turn += 1
            self._changed.notify_all()
            return assignment.turn

    def take(self, assignment_id: str, turn: int, wait_seconds: float) -> tuple[list[Finished], int, int]:
        """What has finished of this assignment since the last call, waiting up to `wait_seconds` if that is nothing.

        The call confirms that what was taken before is recorded. The call of a trial that was killed may still wait
        here; once another trial follows the assignment, it takes nothing.

        Returns:
            What has finished, the approximate number of slots, and how many probes of the assignment are left.

        Raises:
            RuntimeError: when the engine has broken down; its probes have no verdict.
        """
        with self._changed:
            assignment = self._assignments[assignment_id]
            if turn == assignment.turn:
                assignment.taken = []
            self._changed.wait_for(
                lambda: assignment.ready or self._fault or turn != assignment.turn, timeout=wait_seconds
            )
            if turn != assignment.turn:
                return [], self._num_slots, len(assignment.running)
            if not assignment.ready and self._fault is not None:
                raise RuntimeError(f"the engine broke down: {self._fault!r}") from self._fault
            assignment.taken, assignment.ready = assignment.ready, []
            return assignment.taken, self._num_slots, len(assignment.running)

    def forget(self, assignment_id: str) -> None:
        """Drop this assignment; no trial will ask for it again."""
        with self._changed:
            self._assignments.pop(assignment_id, None)
            self._assignment_of = {
                probe: assignment for probe, assignment in self._assignment_of.items() if assignment != assignment_id
            }

    def pause(self) -> tuple[list[Finished], list[Snapshot]]:
        """Take no further step.

        Returns:
            What has finished without being confirmed, and the probes in flight.
        """
        with self._changed:
            self._paused = True
            self._changed.notify_all()
        self._thread.join()
        left = [item for assignment in self._assignments.values() for item in (*assignment.taken, *assignment.ready)]
        return left, self._engine.snapshots()

    def _run(self) -> None:
        saved_at = exported_at = time.monotonic()
        try:
            while not self._paused:
                with self._changed:
                    arrived, self._arriving = self._arriving, []
                self._engine.submit(arrived, num_open=self._num_open)
                self._stepped_at = time.monotonic()
                if self._stepped_at - exported_at > EXPORT_SECONDS:
                    self._metrics.export(self._stats, num_slots=self._num_slots, num_busy=self._num_busy)
                    exported_at = self._stepped_at
                if not self._engine.num_held:
                    with self._changed:
                        self._changed.wait_for(lambda: self._arriving or self._paused, timeout=IDLE_SECONDS)
                    continue
                self._hand_out(self._engine.step())
                self._stats, self._num_slots = self._engine.stats(), self._engine.num_slots
                self._num_busy = self._engine.num_busy
                if time.monotonic() - saved_at > self._load.snapshot_seconds:
                    self._recorder.save_snapshots.remote(self._load.name, self._engine.snapshots())
                    saved_at = time.monotonic()
        except BaseException as fault:
            with self._changed:
                self._fault = fault
                self._changed.notify_all()

    def _hand_out(self, finished: Sequence[Finished]) -> None:
        if not finished:
            return
        self._metrics.count(finished)
        with self._changed:
            for item in finished:
                assignment_id = self._assignment_of.pop(item.probe.probe_id, None)
                if assignment_id is not None:
                    assignment = self._assignments[assignment_id]
                    assignment.running.discard(item.probe.probe_id)
                    assignment.ready.append(item)
            self._changed.notify_all()
