"""Measurements of a finished run that need its models: the bits ledger, and the line between two memories of one text.

Knows nothing of Ray or of how memories came to be.
"""

import bz2
import lzma
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.analysis.memories import Provers
from orchestrator.progress import tracked
from orchestrator.runs.directory import Run
from orchestrator.store.schema import BITS, LINES
from tasks.contract import Prover
from tasks.values import Question

LINE_POINTS = 21
"""Points on the line between two memories, ends included."""
LINES_PER_GROUP = 12
"""Most texts whose lines are measured, for each model and k: the mean over so many is enough."""
INT8_SCALE_BYTES = 4
"""int8 stores one float32 scale for each vector."""

Compressor = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def _zstd(level: int = 19) -> Compressor:
    codec = pa.Codec("zstd", compression_level=level)

    def compress(data: bytes) -> bytes:
        return codec.compress(data, asbytes=True)

    def decompress(data: bytes) -> bytes:
        # As a stream: in one piece, Arrow needs the decompressed size, which would have to be stored as well.
        return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()

    return compress, decompress


COMPRESSORS: dict[str, Compressor] = {
    "zlib": (lambda data: zlib.compress(data, 9), zlib.decompress),
    "bz2": (lambda data: bz2.compress(data, 9), bz2.decompress),
    "lzma": (
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=9),
        lambda data: lzma.decompress(data, lzma.FORMAT_ALONE),
    ),
    "zstd": _zstd(),
}
"""Name -> (compress, decompress)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A memory in fewer bits."""

    num_bytes: int
    """Size when stored."""
    values: NDArray[np.float32]
    """The values when read back, (K, D)."""


def quantize(memory_KD: NDArray[np.float32], precision: str) -> Quantized:
    """The memory rounded to `precision` (float32, bfloat16, float16 or int8) and read back.

    Raises:
        ValueError: when `precision` is none of these.
    """
    match precision:
        case "float32":
            return Quantized(num_bytes=memory_KD.nbytes, values=memory_KD)
        case "float16":
            return Quantized(num_bytes=memory_KD.nbytes // 2, values=memory_KD.astype("<f2").astype("<f4"))
        case "bfloat16":
            # The upper half of a float32, rounded to nearest, ties to even.
            bits = memory_KD.astype("<f4").view("<u4")
            upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            return Quantized(num_bytes=memory_KD.nbytes // 2, values=(upper << 16).astype("<u4").view("<f4"))
        case "int8":
            largest_K1 = np.abs(memory_KD).max(axis=1, keepdims=True)
            scale_K1 = np.where(largest_K1 > 0, largest_K1 / 127, 1).astype("<f4")
            whole = np.rint(memory_KD / scale_K1).astype(np.int8)
            num_bytes = memory_KD.size + INT8_SCALE_BYTES * len(memory_KD)
            return Quantized(num_bytes=num_bytes, values=(whole * scale_K1).astype("<f4"))
    raise ValueError(f"{precision!r} is not a precision; known: float32, bfloat16, float16, int8.")


def measure_run(run: Run, *, device: str = "auto") -> tuple[pa.Table, pa.Table]:
    """The bits ledger (BITS) and the lines between memories (LINES) of a run.

    Raises:
        BadInput: when a model is not the one that the run measured.
    """
    searches = [row for row in run.searches().to_pylist() if row["probe_id"] is not None]
    columns = ("probe_id", "attempt", "search_id", "proven_length", "memory", "memory_shape")
    memories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in run.probes(columns).to_pylist():
        # Proven by the run's criterion: with t_1 given, or at 0.99, decoding from the memory alone may give nothing.
        if row["memory"] is not None and row["proven_length"]:
            memories[row["search_id"]].append(row)
    bits, lines = [], []
    provers = Provers(run, device, [search["model"] for search in searches])
    question = run.sweep.question()
    num_lines: dict[tuple[str, int], int] = defaultdict(int)
    for search in tracked(sorted(searches, key=lambda row: row["model"]), "measuring texts and memories"):
        prover, held = provers.of(search["model"]), memories[search["search_id"]]
        sample = run.sample(search["model"], search["sample_id"])
        best = next((row for row in held if row["probe_id"] == search["probe_id"]), None)
        if best is not None:
            bits.append(_bits_of(search, sample, best, prover, question=question))
        if len(held) > 1 and num_lines[search["model"], search["num_vectors"]] < LINES_PER_GROUP:
            num_lines[search["model"], search["num_vectors"]] += 1
            lines += _line_of(search, sample, held, prover)
    return pa.Table.from_pylist(bits, schema=BITS), pa.Table.from_pylist(lines, schema=LINES)


def _bits_of(
    search: dict[str, Any], sample: dict[str, Any], best: dict[str, Any], prover: Prover, *, question: Question
) -> dict[str, Any]:
    num_tokens = search["capacity_tokens"]
    tokens, text = sample["tokens"][:num_tokens], sample["text"][: sample["token_ends"][num_tokens - 1]].encode()
    row: dict[str, Any] = {
        "search_id": search["search_id"],
        "tokens": num_tokens,
        "text_bytes": len(text),
        "model_bits": search["capacity_bits"],
        "removed_bits": search["information_gain_bits"],
    }
    # 1. The text: compressed, and decompressed to check.
    for name, (compress, decompress) in COMPRESSORS.items():
        packed = compress(text)
        assert decompress(packed) == text, f"{name} did not give the text back"
        row[f"{name}_bytes"] = len(packed)
    context = sample["context"] or ()
    packed = prover.compress(tokens, context=context)
    given = tokens[: question.num_given]
    if prover.decompress(packed, num_tokens, given=given, context=context) == tuple(tokens):
        row["arithmetic_bytes"] = len(packed)
    # 2. The memory: quantized, and decoded again.
    memory_KD = np.frombuffer(best["memory"], dtype="<f4").reshape(best["memory_shape"])
    for precision in ("float32", "bfloat16", "float16", "int8"):
        smaller = quantize(memory_KD, precision)
        stored, vectors = smaller.values.tobytes(), search["num_vectors"]
        prefix = prover(stored, num_vectors=vectors, tokens=tokens, context=context).exact_prefix
        accuracy = prover.accuracy(stored, num_vectors=vectors, tokens=tokens, context=context)
        exact = question.criterion is None
        row |= {
            f"{precision}_bytes": smaller.num_bytes,
            f"{precision}_exact_prefix": prefix,
            f"{precision}_accuracy": accuracy,
            f"{precision}_lossless": prefix == num_tokens if exact else question.is_met(accuracy, num_tokens),
        }
    return row


def _line_of(
    search: dict[str, Any], sample: dict[str, Any], held: list[dict[str, Any]], prover: Prover
) -> Iterator[dict[str, Any]]:
    """Rows of LINES, from the memory that proves the longest length to the one that proves the second longest."""
    first, second = sorted(held, key=lambda row: (-row["proven_length"], row["probe_id"]))[:2]
    tokens = sample["tokens"][: second["proven_length"]]
    ends = [np.frombuffer(row["memory"], dtype="<f4") for row in (first, second)]
    for share in np.linspace(0, 1, LINE_POINTS).tolist():
        between = ((1 - share) * ends[0] + share * ends[1]).astype("<f4")
        yield {
            **{name: search[name] for name in ("model", "sample_id", "source", "num_vectors")},
            "from_probe_id": first["probe_id"],
            "to_probe_id": second["probe_id"],
            "tokens": len(tokens),
            "share": share,
            "accuracy": prover.accuracy(
                between.tobytes(), num_vectors=search["num_vectors"], tokens=tokens, context=sample["context"] or ()
            ),
        }
