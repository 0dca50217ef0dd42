from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.report.figures.canvas import ReportTables
from orchestrator.store.probe_columns import PROBES, packed_bits
from orchestrator.store.schema import BITS, LINES, NOISE, PORTABILITY, QUANTIZED, SAMPLES, SEARCHES
from tests.elements import Elements


@pytest.fixture(scope="session")
def generated() -> Callable[[int, int], ReportTables]:
    """Makes up a run of so many searches and probes."""
    return _generated


def _generated(num_searches: int, num_probes: int) -> ReportTables:
    models = ["made-up/small", "made-up/large"]
    words = [f"word{i % 97}" for i in range(90)]
    text = " ".join(words)
    ends = [sum(len(word) + 1 for word in words[: i + 1]) - 1 for i in range(90)]
    searches, samples, probes = [], [], []
    for number in range(num_searches):
        model, kind, k = models[number % 2], ("stories", "books", "random")[number % 3], (1, 2, 4)[number // 6 % 3]
        shared = {"model": model, "source": f"{kind}:{number}.txt", "num_vectors": k, "sample_id": f"t{number // 6}"}
        question = {"criterion": "exact", "decode_from": "memory", "seed": 0}
        capacity = 10 * k + number % 17
        sample = {"sample_id": f"t{number // 6}", "text_sha256": f"t{number // 6}"}
        samples.append({**sample, "model": model, "text": text, "token_ends": ends})
        searches.append(
            {**shared, **question, "search_id": f"s{number}", "capacity_tokens": capacity, "status": "measured"}
            | {"capacity_bits": 4.0 * capacity, "bits_per_dimension": 4.0 * capacity / (16 * k)}
            | {"token_gain": 0.8 * capacity, "information_gain_bits": 3.0 * capacity}
            | {"theoretical_tokens": 100.0 * k, "utilization": 0.008 * capacity, "probe_id": f"p{number}-0"}
            | {"smallest_failed": capacity + 1, "margin": 0.01, "probes": num_probes // num_searches, "steps": 900}
        )
        for probe in range(num_probes // num_searches):
            lossless = probe == 0
            probes.append(
                {**shared, **question, "search_id": f"s{number}", "probe_id": f"p{number}-{probe}", "number": probe}
                | {"attempt": 0, "start": "cold", "length": capacity, "steps": 300, "steps_to_proof": 100}
                | {"outcome": "lossless" if lossless else "lossy", "proven_length": capacity if lossless else 0}
                | {"failed_length": capacity + 1, "exact_prefix": capacity if lossless else 0}
                | {"margin": 0.01 if lossless else None}
                | {"measured_length": capacity, "token_accuracy": 1.0, "token_accuracy_without_memory": 0.2}
                | {"nats_without_memory": 2.8 * capacity + probe, "nats_with_memory": 0.4 * capacity + probe}
                | {"correct_by_token": packed_bits([True] * capacity)}
                | {"correct_by_token_without_memory": packed_bits([False] * capacity)}
                | {"memory": np.random.default_rng(number * 100 + probe).normal(size=64).astype("<f4").tobytes()}
                | {"nats_by_token": [0.25] * capacity, "nats_by_token_without_memory": [2.5] * capacity}
                | {"margin_by_token": [1.5] * capacity, "memory_shape": [k, 64 // k], "trained_tokens": 300 * capacity}
                | {"steps_by_length": [10 * n for n in range(capacity)] if lossless else None}
                | {"trained_tokens_by_length": [10 * n * n for n in range(capacity)] if lossless else None}
                | {"certified_steps": [50, 100, 200], "certified_lengths": [5, 10, 20] if lossless else [0, 0, 0]}
                | {"certified_trained_tokens": [250, 1000, 4000]}
            )
    return ReportTables(
        probes=pa.Table.from_pylist(probes, schema=PROBES),
        searches=pa.Table.from_pylist(searches, schema=SEARCHES),
        samples=pa.Table.from_pylist(samples, schema=SAMPLES),
        bits=pa.Table.from_pylist([_bits(row) for row in searches], schema=BITS),
        lines=pa.Table.from_pylist([point for row in searches[:6] for point in _line(row)], schema=LINES),
        quantized=pa.Table.from_pylist([one for row in searches for one in _quantized(row)], schema=QUANTIZED),
        noise=pa.Table.from_pylist([draw for row in searches for draw in _noise(row)], schema=NOISE),
        portability=pa.Table.from_pylist([_elsewhere(row) for row in searches], schema=PORTABILITY),
    )


def _bits(search: dict[str, Any]) -> dict[str, Any]:
    tokens, shared = search["capacity_tokens"], {"search_id": search["search_id"]}
    packed = {f"{name}_bytes": 3 * tokens for name in ("zlib", "bz2", "lzma", "zstd", "arithmetic")}
    sizes = (("float32", 256), ("bfloat16", 128), ("float16", 128), ("int8", 68))
    memory = {f"{name}_bytes": size for name, size in sizes}
    exact = {f"{name}_exact_prefix": tokens for name, _ in sizes}
    bits = {"text_bytes": 5 * tokens, "model_bits": 4.0 * tokens, "removed_bits": 3.0 * tokens}
    return {**shared, "tokens": tokens, **bits, **packed, **memory, **exact}


def _elsewhere(search: dict[str, Any]) -> dict[str, Any]:
    tokens, number = search["capacity_tokens"], int(search["search_id"][1:])
    shared = {"probe_id": search["probe_id"], "model": search["model"], "setting": "dtype=bfloat16"}
    return {**shared, "tokens": tokens, "exact_prefix": tokens - number % 2}


def _line(search: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {name: search[name] for name in ("model", "sample_id", "source", "num_vectors")}
    ends = {"from_probe_id": search["probe_id"], "to_probe_id": "another", "tokens": 9}
    return [
        {**shared, **ends, "share": share, "accuracy": accuracy}
        for share, accuracy in ((0.0, 1.0), (0.5, 0.4), (1.0, 1.0))
    ]


def _quantized(search: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the memories, all survive 8 bits, those of even length 4 bits, and none 2 bits."""
    tokens, shared = search["capacity_tokens"], {"search_id": search["search_id"]}
    return [
        {**shared, "tokens": tokens, "format": f"int{bits}" + (f"/{block}" if block else "")}
        | {"bits": bits, "block": block, "bytes": 8 * bits + 4 * (2 if block else 1), "turn_degrees": 2.0 ** (8 - bits)}
        | {"exact_prefix": tokens if lossless else 1, "lossless": lossless}
        for block in (None, 32)
        for bits, lossless in ((8, True), (4, tokens % 2 == 0), (2, False))
    ]


def _noise(search: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {"search_id": search["search_id"], "tokens": search["capacity_tokens"], "width": 64}
    return [
        {**shared, "draw": draw, "angle_degrees": 10.0 + draw, "bound_bits": search["num_vectors"] * (160.0 - draw)}
        for draw in range(3)
    ]


@pytest.fixture(scope="session")
def read() -> Callable[[str], Elements]:
    """Reads a page as a browser does."""
    return Elements
