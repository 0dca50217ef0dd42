"""Snapshots of probes in flight, from which a resume continues after a session ended early.

A snapshot that cannot be read costs its steps and nothing else. Knows nothing of Ray, torch or what a state means.
"""

import re
from collections.abc import Sequence

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.store.files import Files
from orchestrator.store.parquet import parse_table, write_table
from tasks.values import Snapshot

SNAPSHOT_FOLDER = "snapshots"
SNAPSHOTS = pa.schema([("probe_id", pa.string()), ("steps", pa.int64()), ("state", pa.binary())])
"""One row per probe in flight."""


class Snapshots:
    """The newest state of every probe in flight, from this session and earlier ones."""

    def __init__(self, files: Files, session_id: str) -> None:
        self._files = files
        self._session_id = session_id
        self._earlier: dict[str, Snapshot] = {}
        self._of_engine: dict[str, dict[str, Snapshot]] = {}
        for name in files.names(SNAPSHOT_FOLDER, suffix=".parquet"):
            try:
                table = parse_table(files, name, files.read(name), SNAPSHOTS)
            except (BadInput, OSError):
                continue
            _keep_newest(self._earlier, [Snapshot(**row) for row in table.to_pylist()])

    def save(self, engine: str, snapshots: Sequence[Snapshot]) -> None:
        """Replace the snapshots of an engine by those of all probes that it holds now.

        Raises:
            OSError: when they could not be written; the earlier ones are still there.
        """
        held = self._of_engine.get(engine, {})
        if not snapshots and not held:
            return
        table = pa.Table.from_pylist(
            [{"probe_id": s.probe_id, "steps": s.steps, "state": s.state} for s in snapshots], schema=SNAPSHOTS
        )
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", engine)
        write_table(self._files, f"{SNAPSHOT_FOLDER}/{self._session_id}-{slug}.parquet", table)
        self._of_engine[engine] = {snapshot.probe_id: snapshot for snapshot in snapshots}

    def state_of(self, probe_id: str) -> bytes | None:
        """The newest state of this probe; None if it was never saved."""
        known = [held[probe_id] for held in (self._earlier, *self._of_engine.values()) if probe_id in held]
        return max(known, key=lambda snapshot: snapshot.steps).state if known else None


def _keep_newest(kept: dict[str, Snapshot], snapshots: Sequence[Snapshot]) -> None:
    for snapshot in snapshots:
        if snapshot.probe_id not in kept or snapshot.steps > kept[snapshot.probe_id].steps:
            kept[snapshot.probe_id] = snapshot


def remove_snapshots(files: Files) -> None:
    """Remove all snapshots, once nothing is in flight."""
    if names := files.names(SNAPSHOT_FOLDER, suffix=".parquet"):
        files.remove(*names)
