"""The executor without Ray: the same ledger and engines, in this process.

Knows nothing of Ray.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.search.bracket import Verdict, verdict_of
from orchestrator.search.ledger import Ledger, Order
from orchestrator.session import Session, make_probe
from orchestrator.stop import Stop
from orchestrator.store.snapshots import Snapshots
from tasks.contract import Engine, EngineSettings, EngineStats, Finished, Probe

INLINE_ENGINE = "inline"
GATHER_SECONDS = 0.2
"""Finished probes are written together, at most so long after the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What becomes of the probes of a loop, beside the ledger's hearing of them."""

    make: Callable[[Order], Probe]
    """The probe an order stands for, complete with its memory."""
    record: Callable[[Sequence[Finished]], object]
    """Keeps what has finished; the ledger hears of it once this returns."""
    heard: Callable[[Sequence[Verdict]], object] = lambda verdicts: None
    """Told of verdicts after the ledger."""
    stepped: Callable[[], object] = lambda: None
    """Called after every step."""


def run_inline(
    session: Session, settings: EngineSettings, *, stop: Stop, heard: Callable[[Sequence[Verdict]], None]
) -> EngineStats:
    """Run until no search is open or `stop` says so.

    Args:
        session: The run.
        settings: How to compute.
        stop: Asked after every step.
        heard: Told of every finished probe once its row is on disk.

    Returns:
        What the engines have done.
    """
    recorder, snapshots = session.recorder(), Snapshots(session.files, session.session_id)
    snapshot_seconds = session.plan.sweep.engines.snapshot_seconds
    total = EngineStats()

    def make(order: Order) -> Probe:
        probe = recorder.give_memory(make_probe(session.plan, order))
        return replace(probe, snapshot=snapshots.state_of(probe.probe_id))

    for name in session.ledger.models:
        if stop or not session.ledger.num_ready(name):
            continue
        engine = session.plan.task.open_engine(session.plan.model(name).model, session.plan.question, settings)
        saver = _Saver(engine, snapshots, snapshot_seconds)
        keeping = Keeping(make=make, record=recorder.record, heard=heard, stepped=saver.save_in_time)
        answer(session.ledger, name, engine, keeping, stop=stop)
        if engine.num_held:
            saver.save()
        total += engine.stats()
    return total


def answer(ledger: Ledger, model: str, engine: Engine, keeping: Keeping, *, stop: Stop) -> None:
    """Keep the engine busy with the searches of `model` until none of them is open or `stop` says so."""
    gathered: list[Finished] = []
    first_gathered = 0.0
    while not stop and (engine.num_held or gathered or ledger.num_ready(model)):
        # 1. One probe more than there are rows waits, so that a row that leaves is replaced at once.
        orders = ledger.next_orders(model, max(0, engine.num_rows + 1 - engine.num_busy))
        engine.submit([keeping.make(order) for order in orders], num_open=ledger.num_open_of(model))
        # 2. One optimizer step of every row.
        finished = engine.step()
        if finished and not gathered:
            first_gathered = time.monotonic()
        gathered += finished
        # 3. Rows first, verdicts after. The engine does not wait for company if it has nothing else to do.
        starving = engine.num_busy < engine.num_rows
        if gathered and (starving or time.monotonic() - first_gathered > GATHER_SECONDS):
            keeping.record(gathered)
            heard_of = [verdict_of(item) for item in gathered]
            for verdict in heard_of:
                ledger.record(verdict)
            keeping.heard(heard_of)
            gathered = []
        # 4. What a crash would cost.
        keeping.stepped()
    keeping.record(gathered)


class _Saver:
    """Saves the rows of an engine that are in flight, from time to time."""

    def __init__(self, engine: Engine, snapshots: Snapshots, every_seconds: float) -> None:
        self._engine = engine
        self._snapshots = snapshots
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Save them now."""
        self._snapshots.save(INLINE_ENGINE, self._engine.snapshots())

    def save_in_time(self) -> None:
        """Save them if the last time is long ago."""
        if time.monotonic() - self._saved_at > self._every_seconds:
            self.save()
            self._saved_at = time.monotonic()
