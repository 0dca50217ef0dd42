"""A ledger of measurements that survives a stop: rows in a Parquet file, and states of probes in flight beside it.

Knows nothing of what is measured.
"""

import hashlib
import json
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SETTINGS = ("label", "model", "texts", "recipe", "num_vectors", "budget", "longest")
"""Settings of a measurement: rows with equal settings make one line of a table."""
SAVE_SECONDS = 60.0
"""Time between two savings of the states: the most work that a stop costs."""


class Ledger:
    """Rows of a Parquet file, which is rewritten with each new row, and states of probes in flight beside it."""

    def __init__(self, path: Path) -> None:
        self._path, self._states = path, path.with_suffix(".states")
        self.rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []

    def has(self, key: str) -> bool:
        """Whether there is a row with this key."""
        return any(row["key"] == key for row in self.rows)

    def state_of(self, key: str) -> bytes | None:
        """The saved state of a probe in flight; None if there is none."""
        place = self._states / key
        return place.read_bytes() if place.exists() else None

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, which is on disk when this returns."""
        self.rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".tmp")
        names = dict.fromkeys(name for row in self.rows for name in row)
        rows = [{name: row.get(name) for name in names} for row in self.rows]
        pq.write_table(pa.Table.from_pylist(rows), unfinished, compression="zstd")
        unfinished.replace(self._path)
        (self._states / row["key"]).unlink(missing_ok=True)

    def save(self, states: Mapping[str, bytes]) -> None:
        """Save the states of probes in flight, by key."""
        self._states.mkdir(parents=True, exist_ok=True)
        for key, state in states.items():
            unfinished = self._states / f"{key}.tmp"
            unfinished.write_bytes(state)
            unfinished.replace(self._states / key)


def rows_by_line(paths: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The rows of these ledgers by their settings, in the order of SETTINGS."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for path in paths:
        for row in Ledger(Path(path)).rows:
            groups[tuple(row[name] for name in SETTINGS)].append(row)
    return groups


def key_of(settings: Mapping[str, Any], tokens: Sequence[int], seed: int) -> str:
    """The key of a text that is measured with these settings."""
    return hashlib.sha256(json.dumps([*settings.values(), tokens, seed]).encode()).hexdigest()[:16]


def commit() -> str:
    """The commit that is checked out, with `-dirty` if files differ from it."""
    named = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return named.stdout.strip()
