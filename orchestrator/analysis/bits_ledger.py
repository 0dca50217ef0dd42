"""The bits ledger: what a text costs compressed, and its memory at several precisions, all of it decoded again.

Knows nothing of runs or files.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from orchestrator.analysis.quantization import FLOATS, INTEGERS
from orchestrator.analysis.robustness import Stored
from orchestrator.store.passages import given_back

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


PRECISIONS = {**FLOATS, "int8": INTEGERS["int8"]}
"""Precision of BITS -> how a memory is rounded to it."""


def bits_row(search: dict[str, Any], sample: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """The row of BITS of a search.

    Args:
        search: A row of SEARCHES.
        sample: Its row of SAMPLES.
        stored: The memory that gives its capacity.
    """
    tokens, num_tokens = stored.tokens, len(stored.tokens)
    num_texts = stored.question.num_texts
    text = given_back(sample["text"], sample["token_ends"], num_texts, num_tokens=num_tokens).encode()
    row: dict[str, Any] = {
        "search_id": stored.search_id,
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
    packed, given = stored.prover.compress(tokens, context=stored.context), tokens[: stored.question.num_given]
    if stored.prover.decompress(packed, num_tokens, given=given, context=stored.context) == tuple(tokens):
        row["arithmetic_bytes"] = len(packed)
    # 2. The memory: rounded, and decoded again.
    return row | precision_columns(stored)


def precision_columns(stored: Stored) -> dict[str, Any]:
    """The columns of BITS about the memory, which is decoded at one precision at a time."""
    row: dict[str, Any] = {}
    for precision, rounded in PRECISIONS.items():
        smaller = rounded(stored.memory_KD)
        (prefix,) = stored.exact_prefixes([smaller.values])
        row |= {
            f"{precision}_bytes": smaller.num_bytes,
            f"{precision}_exact_prefix": prefix,
            f"{precision}_accuracy": stored.accuracy(smaller.values),
            f"{precision}_lossless": stored.is_lossless(smaller.values, prefix),
        }
    return row
