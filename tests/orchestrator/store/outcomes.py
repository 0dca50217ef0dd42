"""Probes and their outcomes, made up, and what is the same in every row of them."""

import struct
from dataclasses import replace
from typing import Any

from orchestrator.store.probe_columns import SearchColumns, SharedColumns
from tasks.values import Failed, Finished, Lossless, Lossy, Measurement, Probe, Question

SEARCH = SearchColumns(
    model="some/model",
    model_revision="abc",
    sample_id="sample",
    text_sha256="0" * 64,
    source="files:a.txt",
    seed=7,
    recipe='{"steps": 10}',
)
CONTEXT = SharedColumns(
    run_id="run",
    session_id="first",
    task="cramming",
    question=Question(recipe={"steps": 10}),
    searches={"search": SEARCH, "other": SEARCH},
)


def memory_of(value: float) -> bytes:
    return struct.pack("<2f", value, value)


def probe(number: int = 0, *, length: int = 8, attempt: int = 0, start: str = "cold", search: str = "search") -> Probe:
    return Probe(
        probe_id=f"{search}/{number}",
        search_id=search,
        number=number,
        attempt=attempt,
        sample_id="sample",
        tokens=tuple(range(30)),
        length=length,
        num_vectors=1,
        start=start,
    )


def measured(asked: Probe, *, proven: int, failed: int | None = None, **changes: Any) -> Finished:
    """A probe that proved `proven` tokens: without memory 1 token in 4 is correct, and each costs 3 nats."""
    length = proven or asked.length
    measurement = Measurement(
        proven_length=proven,
        exact_prefix=proven,
        failed_length=failed,
        measured_length=length,
        steps=100,
        steps_to_proof=60 if proven else 0,
        trained_tokens=100 * length,
        seconds=1.5,
        token_accuracy=1.0 if proven else 0.5,
        token_accuracy_without_memory=0.25,
        first_error=None if proven else length // 2,
        margin=0.125 if proven else None,
        nats_without_memory=3.0 * length,
        nats_with_memory=0.5 * length,
        proven_nats_without_memory=3.0 * proven,
        proven_nats_with_memory=0.5 * proven,
        proven_token_gain=proven - proven // 4,
        memory=memory_of(proven) if proven else None,
        memory_shape=(1, 2),
    )
    outcome = Lossless if proven >= asked.length else Lossy
    return finished(asked, outcome(measurement=replace(measurement, **changes)))


def failed(asked: Probe, reason: str = "out of device memory") -> Finished:
    return finished(asked, Failed(reason=reason))


def finished(asked: Probe, outcome: Lossless | Lossy | Failed) -> Finished:
    return Finished(probe=asked, outcome=outcome, device="cpu", started_at=1000.0, finished_at=1001.5)
