"""The executor without Ray: the same ledger and engines, in this process.

Knows nothing of Ray.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.execution.engine_progress import engine_progress
from orchestrator.execution.executor import SnapshotFaults, Watcher
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session, make_probe
from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger, Order
from orchestrator.store.probe_columns import verdict_of
from orchestrator.store.snapshots import Snapshots
from tasks.contract import Engine
from tasks.values import EngineStats, Finished, Probe

INLINE_ENGINE = "inline"
GATHER_SECONDS = 0.2
"""Longest time that a finished probe waits for others, to be written in one file with them."""
PROGRESS_SECONDS = 1.0
"""How often progress is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopCallbacks:
    """What `run_searches` calls, besides the ledger."""

    make_probe: Callable[[Order], Probe]
    """The probe of an order, complete with the memory it begins from."""
    record: Callable[[Sequence[Finished]], object]
    """Stores what has finished; the ledger records the verdicts once this returns."""
    on_verdicts: Callable[[Sequence[Verdict]], object] = lambda verdicts: None
    """Called with verdicts after the ledger has recorded them."""
    on_step: Callable[[], object] = lambda: None
    """Called after every step."""


class InlineExecutor:
    """Runs a session in this process, one model after the other."""

    def run(self, session: Session, *, stop: Stop, watcher: Watcher) -> EngineStats:
        """See `Executor`; `stop` is checked after every step."""
        recorder, snapshots = session.recorder(), Snapshots(session.files, session.session_id)
        plan, total, faults = session.plan, EngineStats(), SnapshotFaults(watcher)

        def make(order: Order) -> Probe:
            probe = recorder.give_memory(make_probe(plan, order))
            return replace(probe, snapshot=snapshots.state_of(probe.probe_id))

        for name in session.ledger.models:
            if stop or not session.ledger.num_ready(name):
                continue
            watcher.show_engines([engine_progress(name, state="loading")])
            engine = plan.task.open_engine(plan.model(name).model, plan.question_of(name), plan.sweep.engine_settings())
            saver = _Saver(engine, snapshots, plan.sweep.engines.snapshot_seconds)
            progress = _ProgressReporter(name, engine, watcher)

            def on_step(saver: _Saver = saver, progress: _ProgressReporter = progress) -> None:
                saver.save_in_time()
                faults.show(snapshots.faults)
                progress.report_in_time()

            callbacks = LoopCallbacks(
                make_probe=make, record=recorder.record, on_verdicts=watcher.show_verdicts, on_step=on_step
            )
            run_searches(session.ledger, name, engine, callbacks, stop=stop)
            if engine.num_held:
                saver.save()
            total += engine.stats()
        faults.conclude(snapshots.faults)
        return total


def run_searches(ledger: Ledger, model: str, engine: Engine, callbacks: LoopCallbacks, *, stop: Stop) -> None:
    """Keep the engine busy with the searches of `model` until none of them is open or `stop` is true."""
    gathered: list[Finished] = []
    first_gathered = 0.0
    while not stop and (engine.num_held or gathered or ledger.num_ready(model)):
        # 1. One probe waits beyond the slots, so that a slot that becomes free is filled at once.
        orders = ledger.next_orders(model, max(0, engine.num_slots + 1 - engine.num_busy))
        engine.submit([callbacks.make_probe(order) for order in orders], num_open=ledger.num_open_of(model))
        # 2. One optimizer step of every slot.
        finished = engine.step()
        if finished and not gathered:
            first_gathered = time.monotonic()
        gathered += finished
        # 3. Rows first, then verdicts. With slots free, write at once: verdicts bring the probes that fill them.
        starving = engine.num_busy < engine.num_slots
        if gathered and (starving or time.monotonic() - first_gathered > GATHER_SECONDS):
            callbacks.record(gathered)
            verdicts = [verdict_of(item) for item in gathered]
            for verdict in verdicts:
                ledger.record(verdict)
            callbacks.on_verdicts(verdicts)
            gathered = []
        # 4. Snapshots, which bound what a crash costs, and progress.
        callbacks.on_step()
    # After a stop, rows are written without a verdict: the session ends, and the next one reads them from disk.
    callbacks.record(gathered)


class _Saver:
    """Saves the probes in flight of an engine, from time to time."""

    def __init__(self, engine: Engine, snapshots: Snapshots, every_seconds: float) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Save them now."""
        self._snapshots.save(INLINE_ENGINE, self._engine.snapshots())

    def save_in_time(self) -> None:
        """Save them if they are due."""
        if time.monotonic() - self._saved_at > self._every_seconds:
            self.save()
            self._saved_at = time.monotonic()


class _ProgressReporter:
    """Reports the progress of an engine, from time to time."""

    def __init__(self, name: str, engine: Engine, watcher: Watcher) -> None:
        self._name, self._engine, self._watcher = name, engine, watcher
        self._at, self._stats = time.monotonic(), engine.stats()

    def report_in_time(self) -> None:
        """Report it if a report is due."""
        seconds = time.monotonic() - self._at
        if seconds < PROGRESS_SECONDS:
            return
        stats = self._engine.stats()
        line = engine_progress(
            self._name,
            state="running",
            num_slots=self._engine.num_slots,
            num_busy=self._engine.num_busy,
            stats=stats,
            before=self._stats,
            seconds=seconds,
        )
        self._at, self._stats = time.monotonic(), stats
        self._watcher.show_engines([line])
