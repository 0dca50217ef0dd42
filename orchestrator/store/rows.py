"""From finished probes to rows of the probes table.

Knows nothing of files, Ray or torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from orchestrator.redact import redact
from orchestrator.store.schema import PROBES, SCHEMA_VERSION
from tasks.values import Failed, Finished, Lossless, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchColumns:
    """What is the same in every row of one search."""

    model: str
    model_revision: str
    sample_id: str
    text_sha256: str
    source: str
    seed: int
    recipe: str
    """As JSON, every field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """What is the same in every row of a session, and what each search adds."""

    run_id: str
    session_id: str
    task: str
    question: Question
    searches: Mapping[str, SearchColumns]


def criterion_name(question: Question) -> str:
    """`exact`, or `teacher_forced>=0.99`."""
    return "exact" if question.criterion is None else f"teacher_forced>={question.criterion:g}"


def rows_table(context: RowContext, finished: Sequence[Finished]) -> pa.Table:
    """One row per finished probe, in the columns of PROBES."""
    return pa.Table.from_pylist([_row(context, item) for item in finished], schema=PROBES)


def packed_bits(bits: Sequence[bool]) -> bytes | None:
    """One bit each, the first in the lowest bit of the first byte; None if there are none."""
    number = sum(bit << place for place, bit in enumerate(bits))
    return number.to_bytes(-(-len(bits) // 8), "little") if bits else None


def unpacked_bits(packed: bytes, count: int) -> list[bool]:
    """The first `count` bits of `packed_bits`."""
    number = int.from_bytes(packed, "little")
    return [bool(number >> place & 1) for place in range(count)]


def _row(context: RowContext, finished: Finished) -> dict[str, Any]:
    probe, outcome, search = finished.probe, finished.outcome, context.searches[finished.probe.search_id]
    row: dict[str, Any] = {
        "run_id": context.run_id,
        "session_id": context.session_id,
        "search_id": probe.search_id,
        "probe_id": probe.probe_id,
        "number": probe.number,
        "attempt": probe.attempt,
        "task": context.task,
        "criterion": criterion_name(context.question),
        "decode_from": context.question.decode_from,
        "prefix": context.question.prefix,
        "model": search.model,
        "model_revision": search.model_revision,
        "sample_id": search.sample_id,
        "text_sha256": search.text_sha256,
        "source": search.source,
        "num_vectors": probe.num_vectors,
        "seed": search.seed,
        "start": probe.start,
        "length": probe.length,
        "recipe": search.recipe,
        "device": finished.device,
        "tokens_per_step": finished.tokens_per_step,
        "batch_cost_tokens": finished.batch_cost_tokens,
        "started_at": datetime.fromtimestamp(finished.started_at, UTC),
        "finished_at": datetime.fromtimestamp(finished.finished_at, UTC),
        "schema_version": SCHEMA_VERSION,
    }
    if isinstance(outcome, Failed):
        # It may quote an error, and an error may quote anything.
        return {**row, "outcome": "failed", "reason": redact(outcome.reason)}
    found = outcome.measurement
    return {
        **row,
        "outcome": "lossless" if isinstance(outcome, Lossless) else "lossy",
        "reason": found.remark,
        "proven_length": found.proven_length,
        "exact_prefix": found.exact_prefix,
        "failed_length": found.failed_length,
        "measured_length": found.measured_length,
        "steps": found.steps,
        "steps_to_proof": found.steps_to_proof,
        "trained_tokens": found.trained_tokens,
        "seconds": found.seconds,
        "token_accuracy": found.token_accuracy,
        "token_accuracy_without_memory": found.token_accuracy_without_memory,
        "first_error": found.first_error,
        "margin": found.margin,
        "nats_without_memory": found.nats_without_memory,
        "nats_with_memory": found.nats_with_memory,
        "proven_nats_without_memory": found.proven_nats_without_memory,
        "proven_nats_with_memory": found.proven_nats_with_memory,
        "proven_token_gain": found.proven_token_gain,
        "correct_by_token": packed_bits(found.correct),
        "correct_by_token_without_memory": packed_bits(found.correct_without_memory),
        "nats_by_token": found.nats_by_token or None,
        "nats_by_token_without_memory": found.nats_by_token_without_memory or None,
        "margin_by_token": found.margin_by_token or None,
        "steps_by_length": found.steps_by_length or None,
        "trained_tokens_by_length": found.trained_tokens_by_length or None,
        "certified_steps": found.certified_steps or None,
        "certified_trained_tokens": found.certified_trained_tokens or None,
        "certified_lengths": found.certified_lengths or None,
        "exact_in_float32": found.exact_in_float32,
        "memory": found.memory,
        "memory_dtype": "float32",
        "memory_shape": list(found.memory_shape),
    }
