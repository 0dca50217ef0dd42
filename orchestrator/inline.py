"""The executor without Ray: the same ledger and engines, in this process.

Knows nothing of Ray.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.report.live import EngineLine
from orchestrator.search.bracket import Verdict, verdict_of
from orchestrator.search.ledger import Ledger, Order
from orchestrator.session import Session, make_probe
from orchestrator.stop import Stop
from orchestrator.store.snapshots import Snapshots
from tasks.contract import Engine, EngineSettings, EngineStats, Finished, Probe

INLINE_ENGINE = "inline"
GATHER_SECONDS = 0.2
"""Finished probes are written together, at most so long after the first of them."""


TELL_SECONDS = 1.0
"""How often it is said what the engine does."""


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


def _nobody(lines: Sequence[EngineLine]) -> None:
    pass


def run_inline(
    session: Session,
    settings: EngineSettings,
    *,
    stop: Stop,
    heard: Callable[[Sequence[Verdict]], None],
    engines: Callable[[Sequence[EngineLine]], None] = _nobody,
) -> EngineStats:
    """Run until no search is open or `stop` says so.

    Args:
        session: The run.
        settings: How to compute.
        stop: Asked after every step.
        heard: Told of every finished probe once its row is on disk.
        engines: Told about once a second what the engine does.

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
        engines([EngineLine(name=name, num_rows=0, num_busy=0, tokens_per_second=0.0, state="loading")])
        engine = session.plan.task.open_engine(session.plan.model(name).model, session.plan.question, settings)
        saver, teller = _Saver(engine, snapshots, snapshot_seconds), _Teller(name, engine, engines)

        def stepped(saver: _Saver = saver, teller: _Teller = teller) -> None:
            saver.save_in_time()
            teller.tell_in_time()

        keeping = Keeping(make=make, record=recorder.record, heard=heard, stepped=stepped)
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


class _Teller:
    """Tells from time to time what an engine does."""

    def __init__(self, name: str, engine: Engine, told: Callable[[Sequence[EngineLine]], None]) -> None:
        self._name, self._engine, self._told = name, engine, told
        self._at, self._tokens = time.monotonic(), 0

    def tell_in_time(self) -> None:
        """Tell of it if the last time is a while ago."""
        seconds = time.monotonic() - self._at
        if seconds < TELL_SECONDS:
            return
        tokens = self._engine.stats().row_steps_tokens
        line = EngineLine(
            name=self._name,
            num_rows=self._engine.num_rows,
            num_busy=min(self._engine.num_busy, self._engine.num_rows),
            tokens_per_second=(tokens - self._tokens) / seconds,
            state="running",
        )
        self._at, self._tokens = time.monotonic(), tokens
        self._told([line])
