"""The columns of the probes table, each with its type and its value.

A column is added here and nowhere else. Columns may be added but never removed: papers and notebooks read these names.
Knows nothing of files, Ray or torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import pyarrow as pa

from orchestrator.redact import redact
from orchestrator.search.bracket import Verdict
from orchestrator.store.schema import SCHEMA_VERSION
from tasks.values import Failed, Finished, Lossless, Measurement, Question

TEACHER_FORCED = "teacher_forced"
"""Beginning of the names of criteria under which no certificate is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchColumns:
    """Values that are the same in every row of one search."""

    model: str
    model_revision: str
    sample_id: str
    text_sha256: str
    source: str
    seed: int
    recipe: str
    """All fields of the recipe, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedColumns:
    """Values that are the same in every row of a session, and those of each search by search_id."""

    run_id: str
    session_id: str
    task: str
    question: Question
    searches: Mapping[str, SearchColumns]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of PROBES."""

    name: str
    type: pa.DataType
    of_run: Callable[[SharedColumns, SearchColumns], Any] | None = None
    """Gives the value, if it depends on the run or the search only."""
    of_probe: Callable[[Finished], Any] | None = None
    """Gives the value, if it depends on the finished probe."""


def criterion_name(question: Question) -> str:
    """`exact`, `margin>=1`, or `teacher_forced>=0.99`."""
    if question.criterion is not None:
        return f"{TEACHER_FORCED}>={question.criterion:g}"
    return f"margin>={question.least_margin:g}" if question.least_margin else "exact"


def is_certified(criterion: str) -> bool:
    """Whether lengths under the criterion of this name count only once they were decoded from the memory."""
    return not criterion.startswith(TEACHER_FORCED)


def packed_bits(bits: Sequence[bool]) -> bytes | None:
    """The bits packed into bytes, the first in the lowest bit of the first byte; None if there are none."""
    number = sum(bit << place for place, bit in enumerate(bits))
    return number.to_bytes(-(-len(bits) // 8), "little") if bits else None


def unpacked_bits(packed: bytes, count: int) -> list[bool]:
    """The first `count` bits from the bytes that `packed_bits` returned."""
    number = int.from_bytes(packed, "little")
    return [bool(number >> place & 1) for place in range(count)]


def _run(name: str, kind: pa.DataType, read: Callable[[SharedColumns], Any] | None = None) -> Column:
    read = read or attrgetter(name)
    return Column(name, kind, of_run=lambda shared, search: read(shared))


def _search(name: str, kind: pa.DataType) -> Column:
    read = attrgetter(name)
    return Column(name, kind, of_run=lambda shared, search: read(search))


def _probe(name: str, kind: pa.DataType) -> Column:
    return Column(name, kind, of_probe=attrgetter(f"probe.{name}"))


def _finished(name: str, kind: pa.DataType, read: Callable[[Finished], Any] | None = None) -> Column:
    return Column(name, kind, of_probe=read or attrgetter(name))


def _found(name: str, kind: pa.DataType, read: Callable[[Measurement], Any] | None = None) -> Column:
    """A column of the measurement: null where the machine failed, and where a list is empty."""
    read = read or attrgetter(name)

    def value(finished: Finished) -> Any:
        found = None if isinstance(finished.outcome, Failed) else read(finished.outcome.measurement)
        return None if found == () else found

    return Column(name, kind, of_probe=value)


def _outcome(finished: Finished) -> str:
    if isinstance(finished.outcome, Failed):
        return "failed"
    return "lossless" if isinstance(finished.outcome, Lossless) else "lossy"


def _reason(finished: Finished) -> str | None:
    if isinstance(finished.outcome, Failed):
        # A reason may quote an error, and an error may quote credentials.
        return redact(finished.outcome.reason)
    return finished.outcome.measurement.remark


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_TIME = pa.timestamp("us", tz="UTC")
_COLUMNS = (
    _run("run_id", pa.string()),
    _run("session_id", pa.string()),
    _probe("search_id", pa.string()),
    _probe("probe_id", pa.string()),
    _probe("number", pa.int32()),
    _probe("attempt", pa.int32()),
    _run("task", pa.string()),
    _run("criterion", pa.string(), lambda shared: criterion_name(shared.question)),
    _run("decode_from", pa.string(), attrgetter("question.decode_from")),
    _run("prefix", pa.string(), attrgetter("question.prefix")),
    _run("context", pa.int32(), attrgetter("question.context")),
    _run("repeats_context", pa.bool_(), attrgetter("question.repeats_context")),
    _run("num_texts", pa.int32(), attrgetter("question.num_texts")),
    _search("model", pa.string()),
    _search("model_revision", pa.string()),
    _search("sample_id", pa.string()),
    _search("text_sha256", pa.string()),
    _search("source", pa.string()),
    _probe("num_vectors", pa.int32()),
    _search("seed", pa.int64()),
    _probe("start", pa.string()),
    _probe("length", pa.int32()),
    _finished("outcome", pa.string(), _outcome),
    _finished("reason", pa.string(), _reason),
    _found("proven_length", pa.int32()),
    _found("exact_prefix", pa.int32()),
    _found("failed_length", pa.int32()),
    _found("measured_length", pa.int32()),
    _found("steps", pa.int32()),
    _found("steps_to_proof", pa.int32()),
    _found("trained_tokens", pa.int64()),
    _found("seconds", pa.float64()),
    _found("token_accuracy", pa.float64()),
    _found("token_accuracy_without_memory", pa.float64()),
    _found("first_error", pa.int32()),
    _found("margin", pa.float64()),
    _found("nats_without_memory", pa.float64()),
    _found("nats_with_memory", pa.float64()),
    _found("proven_nats_without_memory", pa.float64()),
    _found("proven_nats_with_memory", pa.float64()),
    _found("proven_token_gain", pa.int32()),
    _found("correct_by_token", pa.binary(), lambda found: packed_bits(found.correct)),
    _found("correct_by_token_without_memory", pa.binary(), lambda found: packed_bits(found.correct_without_memory)),
    _found("nats_by_token", pa.list_(pa.float32())),
    _found("nats_by_token_without_memory", pa.list_(pa.float32())),
    _found("margin_by_token", pa.list_(pa.float32())),
    _found("steps_by_length", pa.list_(pa.int32())),
    _found("trained_tokens_by_length", pa.list_(pa.int64())),
    _found("certified_steps", pa.list_(pa.int32())),
    _found("certified_trained_tokens", pa.list_(pa.int64())),
    _found("certified_lengths", pa.list_(pa.int32())),
    _found("exact_in_float32", pa.int32()),
    _found("memory", pa.binary()),
    _found("memory_dtype", pa.string(), lambda found: "float32"),
    _found("memory_shape", pa.list_(pa.int32())),
    _search("recipe", pa.string()),
    _finished("device", pa.string()),
    _finished("tokens_per_step", pa.int64()),
    _finished("batch_cost_tokens", pa.int64()),
    _finished("started_at", _TIME, lambda finished: _utc(finished.started_at)),
    _finished("finished_at", _TIME, lambda finished: _utc(finished.finished_at)),
    _run("schema_version", pa.int32(), lambda shared: SCHEMA_VERSION),
)

PROBES = pa.schema([(column.name, column.type) for column in _COLUMNS])
"""One row per probe outcome. `length` is the length asked for. Accuracies and nats are taken over `measured_length`
tokens, and so are `correct_by_token` and `correct_by_token_without_memory`: one bit per token, the first in the lowest
bit of the first byte. `nats_by_token` and `nats_by_token_without_memory` reach to `proven_length`, `margin_by_token` to
`exact_prefix`. `steps_by_length` and `trained_tokens_by_length` are the curve of the probe: its steps and trained
tokens when it first reached each length, from 1, teacher forced. `certified_lengths` are the tokens that the best
memory after `certified_steps` gives back when decoded, `exact_prefix` those of the stored memory, and
`exact_in_float32` those of the stored memory when the model is in float32. `tokens_per_step` and
`batch_cost_tokens` are those of the engine, which measures them where `engines` gives none."""

VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))
"""The columns that a search needs."""
_VERDICT_COLUMNS = {column.name: column for column in _COLUMNS if column.name in VERDICT_COLUMNS}


def rows_table(shared: SharedColumns, finished: Sequence[Finished]) -> pa.Table:
    """One row per finished probe, in the columns of PROBES."""
    return pa.Table.from_pylist([_row(shared, item) for item in finished], schema=PROBES)


def _row(shared: SharedColumns, finished: Finished) -> dict[str, Any]:
    search = shared.searches[finished.probe.search_id]
    return {
        column.name: column.of_run(shared, search) if column.of_run else _value(column, finished) for column in _COLUMNS
    }


def _value(column: Column, finished: Finished) -> Any:
    assert column.of_probe is not None, f"{column.name} has no source"
    return column.of_probe(finished)


def verdict_of(finished: Finished) -> Verdict:
    """The part of a finished probe that a search needs, without memory and measures."""
    return _verdict({name: _value(column, finished) for name, column in _VERDICT_COLUMNS.items()})


def verdicts_of(probes: pa.Table) -> list[Verdict]:
    """The verdicts in rows of PROBES."""
    return [_verdict(row) for row in probes.select(VERDICT_COLUMNS).to_pylist()]


def _verdict(row: Mapping[str, Any]) -> Verdict:
    return Verdict(**{name: value for name, value in row.items() if value is not None})
