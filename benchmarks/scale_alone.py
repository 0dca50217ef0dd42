"""Measures the searcher, the store and the resume without Ray, with real searches and rows. See scale.py."""

import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import scale

from orchestrator.cluster import engine_pool, searcher
from orchestrator.cluster.engine_pool import EngineHandle, EnginePool
from orchestrator.cluster.placement import EngineNeed, Node
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session, make_probe, open_session
from tasks.values import Finished, Lossless, Lossy, Measurement, Probe

ENGINES = 100
ROWS_PER_FILE = 500
MEMORY_BYTES = 4 * 1024
"""Bytes of a memory: one vector of 1,024 numbers."""


class _Nobody:
    """An actor that accepts every call and answers nothing, so that only the searcher's own time is measured."""

    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": staticmethod(lambda *given, **named: None)})


def _finished(probe: Probe, number: int) -> Finished:
    reached = 20 + number % 30
    measurement = Measurement(
        proven_length=reached,
        exact_prefix=reached,
        failed_length=reached + 1,
        measured_length=reached,
        steps=400,
        steps_to_proof=250,
        trained_tokens=400 * reached,
        seconds=1.0,
        token_accuracy=1.0,
        token_accuracy_without_memory=0.2,
        first_error=None,
        margin=0.1,
        nats_without_memory=2.0 * reached,
        nats_with_memory=0.1,
        proven_nats_without_memory=2.0 * reached,
        proven_nats_with_memory=0.1,
        proven_token_gain=reached,
        memory=bytes(MEMORY_BYTES),
        memory_shape=(1, MEMORY_BYTES // 4),
    )
    outcome = Lossless(measurement=measurement) if reached >= probe.length else Lossy(measurement=measurement)
    return Finished(probe=probe, outcome=outcome, device="none", started_at=0.0, finished_at=1.0)


def _fill(session: Session, *, rows: int) -> tuple[float, float]:
    """Ask and answer `rows` probes; returns seconds of the recorder, and of the ledger."""
    recorder, model = session.recorder(), session.ledger.models[0]
    written = asked = 0.0
    number = 0
    while number < rows:
        began = time.perf_counter()
        orders = session.ledger.next_orders(model, min(ROWS_PER_FILE, rows - number))
        finished = [_finished(make_probe(session.plan, order), number + i) for i, order in enumerate(orders)]
        asked += time.perf_counter() - began
        began = time.perf_counter()
        recorder.record(finished)
        written += time.perf_counter() - began
        began = time.perf_counter()
        for item in finished:
            session.ledger.record(searcher.verdict_of(item))
        asked += time.perf_counter() - began
        number += len(orders)
        if not orders:
            break
    return written, asked


def _suggestions(session: Session, count: int) -> list[float]:
    """Seconds of each of `count` suggestions, whose assignments are all taken."""
    nobody = _Nobody()
    nodes = [Node(cpus=64.0, gpus=8.0, gpu_gigabytes=80.0)] * math.ceil(ENGINES / 8)
    with (
        patch.object(engine_pool.Neighbours, "look", lambda self: None),
        patch.object(searcher, "RunMetrics", lambda run: type("Metrics", (), {"export": lambda *a, **n: None})()),
        patch.object(EnginePool, "_check_loading", lambda self: None),
        patch.object(EnginePool, "_look_at", lambda self, engine: None),
        patch.object(EnginePool, "_make", lambda self, model, need: None),
    ):
        pool = EnginePool(
            plan=session.plan,
            ledger=session.ledger,
            settings=session.plan.sweep.engine_settings(),
            recorder=nobody,
            look=lambda: nodes,
        )
        need = EngineNeed(cpus=1.0, gpus=1.0)
        pool.engines = [
            EngineHandle(name=f"engine {i}", model="toy/model", actor=nobody, loading=None, need=need, num_slots=64)
            for i in range(ENGINES)
        ]
        asks = searcher.LedgerSearcher(
            session,
            pool,
            nobody,
            probes_per_trial=16,
            stop=Stop(),
            on_verdicts=lambda verdicts: None,
            on_engines=lambda lines: None,
            on_snapshot_faults=lambda faults: None,
        )
        seconds: list[float] = []
        for number in range(count):
            began = time.perf_counter()
            found = asks.suggest(f"trial_{number:05d}")
            seconds.append(time.perf_counter() - began)
            if isinstance(found, dict):
                assignment = asks._assignments.pop(f"trial_{number:05d}")
                asks._leave(assignment)
        return seconds


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and its result."""
    began = time.perf_counter()
    given = what()
    return time.perf_counter() - began, given


def measure_alone(*, searches: int, rows: int) -> None:
    """Print times and sizes that grow with the numbers of searches and rows."""
    scale.PROBES_PER_SEARCH = max(1, math.ceil(rows / searches)) + 1  # so that no search ends before the last row
    with tempfile.TemporaryDirectory() as folder:
        planned, plan = timed(lambda: scale.plan_of(Path(folder), searches=searches))
        run = str(Path(folder) / "run")
        with open_session(plan, run) as session:
            written, asked = _fill(session, rows=rows)
        opening = open_session(plan, run)
        resumed, session = timed(opening.__enter__)
        suggestions = _suggestions(session, 2000)
        derived, _ = timed(session.finish)
        opening.__exit__(None, None, None)
        files = len(list(Path(run, "probes").glob("*.parquet")))
        size = sum(path.stat().st_size for path in Path(run).rglob("*.parquet"))
        ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{searches:,} searches, {rows:,} rows: plan {planned:.1f} s; recorder {1e6 * written / rows:.0f} us a "
            f"row, ledger {1e6 * asked / rows:.0f} us a row; {files} files, {size / 1e6:,.0f} MB; "
            f"resume {resumed:.1f} s; suggestion median {1e3 * statistics.median(suggestions):.2f} ms, 99 % under "
            f"{1e3 * statistics.quantiles(suggestions, n=100)[-1]:.2f} ms; searches table {derived:.1f} s; "
            f"this process {ram:,.0f} MB at most"
        )
