"""The executor without Ray: the same ledger and engines, in this process.

Knows nothing of Ray.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.report.live import EngineLine
from orchestrator.search.bracket import Verdict, verdict_of
from orchestrator.session import Session, make_probe
from orchestrator.stop import Stop
from orchestrator.store.snapshots import Snapshots
from tasks.contract import Engine, EngineSettings, EngineStats, Finished

INLINE_ENGINE = "inline"
GATHER_SECONDS = 0.2
"""Finished probes are written together, at most so long after the first of them."""


TELL_SECONDS = 1.0
"""How often it is said what the engine does."""


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
    for name in session.ledger.models:
        if stop or not session.ledger.num_ready(name):
            continue
        engines([EngineLine(name=name, num_rows=0, num_busy=0, tokens_per_second=0.0, state="loading")])
        engine = session.plan.task.open_engine(session.plan.model(name).model, session.plan.question, settings)
        gathered: list[Finished] = []
        first_gathered, saved_at = 0.0, time.monotonic()
        tell = _Teller(name, engine, engines)
        while not stop and (engine.num_held or gathered or session.ledger.num_ready(name)):
            # 1. One probe more than there are rows waits, so that a row that leaves is replaced at once.
            orders = session.ledger.next_orders(name, max(0, engine.num_rows + 1 - engine.num_busy))
            made = [recorder.give_memory(make_probe(session.plan, order)) for order in orders]
            probes = [replace(probe, snapshot=snapshots.state_of(probe.probe_id)) for probe in made]
            engine.submit(probes, num_open=session.ledger.num_open_of(name))
            # 2. One optimizer step of every row.
            finished = engine.step()
            if finished and not gathered:
                first_gathered = time.monotonic()
            gathered += finished
            # 3. Rows first, verdicts after. The engine does not wait for company if it has nothing else to do.
            starving = engine.num_busy < engine.num_rows
            if gathered and (starving or time.monotonic() - first_gathered > GATHER_SECONDS):
                recorder.record(gathered)
                heard_of = [verdict_of(item) for item in gathered]
                for verdict in heard_of:
                    session.ledger.record(verdict)
                heard(heard_of)
                gathered = []
            tell()
            # 4. What a crash would cost.
            if time.monotonic() - saved_at > snapshot_seconds:
                snapshots.save(INLINE_ENGINE, engine.snapshots())
                saved_at = time.monotonic()
        recorder.record(gathered)
        if engine.num_held:
            snapshots.save(INLINE_ENGINE, engine.snapshots())
        total += engine.stats()
    return total


class _Teller:
    """Tells from time to time what an engine does."""

    def __init__(self, name: str, engine: Engine, told: Callable[[Sequence[EngineLine]], None]) -> None:
        self._name, self._engine, self._told = name, engine, told
        self._at, self._tokens = time.monotonic(), 0

    def __call__(self) -> None:
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
