import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.report.figures.canvas import ReportTables
from orchestrator.store.probe_columns import PROBES, packed_bits
from orchestrator.store.schema import BITS, LINES, SAMPLES, SEARCHES


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
    )


def _bits(search: dict[str, Any]) -> dict[str, Any]:
    tokens, shared = search["capacity_tokens"], {"search_id": search["search_id"]}
    packed = {f"{name}_bytes": 3 * tokens for name in ("zlib", "bz2", "lzma", "zstd", "arithmetic")}
    sizes = (("float32", 256), ("bfloat16", 128), ("float16", 128), ("int8", 68))
    memory = {f"{name}_bytes": size for name, size in sizes}
    exact = {f"{name}_exact_prefix": tokens for name, _ in sizes}
    bits = {"text_bytes": 5 * tokens, "model_bits": 4.0 * tokens, "removed_bits": 3.0 * tokens}
    return {**shared, "tokens": tokens, **bits, **packed, **memory, **exact}


def _line(search: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {name: search[name] for name in ("model", "sample_id", "source", "num_vectors")}
    ends = {"from_probe_id": search["probe_id"], "to_probe_id": "another", "tokens": 9}
    return [
        {**shared, **ends, "share": share, "accuracy": accuracy}
        for share, accuracy in ((0.0, 1.0), (0.5, 0.4), (1.0, 1.0))
    ]


@pytest.fixture(scope="session")
def read() -> Callable[[str], "Elements"]:
    """Reads a page as a browser does."""
    return Elements


class Elements(HTMLParser):
    """What a browser would find: start tags with attributes, text outside of scripts, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.text += data

    def figures(self) -> list[dict[str, Any]]:
        """The embedded figures, read as the page's script reads them."""
        embedded = (attributes.get("type") == "application/json" for tag, attributes in self.tags if tag == "script")
        return [json.loads(script) for script, is_json in zip(self.scripts, embedded, strict=True) if is_json]
