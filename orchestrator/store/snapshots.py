"""Snapshots of probes in flight, from which a resume continues after a session ended early.

A snapshot that cannot be written or read costs its steps and nothing else: such a fault is counted, not raised. Knows
nothing of Ray, torch or what a state means.
"""

import contextlib
import hashlib
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
        self._num_faults = 0
        self._first_fault = ""
        try:
            names = files.names(SNAPSHOT_FOLDER, suffix=".parquet")
        except OSError as error:
            self._note(error)
            names = []
        for name in names:
            try:
                table = parse_table(files, name, files.read(name), SNAPSHOTS)
            except (BadInput, OSError) as error:
                self._note(error)
                continue
            _keep_newest(self._earlier, [Snapshot(**row) for row in table.to_pylist()])

    @property
    def faults(self) -> str | None:
        """How many files of snapshots could not be read or written so far, and the first error; None if none."""
        if not self._num_faults:
            return None
        times = "once" if self._num_faults == 1 else f"{self._num_faults} times"
        return f"snapshots could not be read or written {times}, so probes may repeat steps: {self._first_fault}"

    def _note(self, error: Exception) -> None:
        self._num_faults += 1
        self._first_fault = self._first_fault or " ".join(str(error).split())

    def save(self, engine: str, snapshots: Sequence[Snapshot]) -> None:
        """Replace the snapshots of an engine by those of all probes that it holds now.

        If they cannot be written, the earlier ones are still there, and the fault is counted.

        Raises:
            LostLockError: when another session has taken over the run.
        """
        held = self._of_engine.get(engine, {})
        if not snapshots and not held:
            return
        table = pa.Table.from_pylist(
            [{"probe_id": s.probe_id, "steps": s.steps, "state": s.state} for s in snapshots], schema=SNAPSHOTS
        )
        try:
            write_table(self._files, f"{SNAPSHOT_FOLDER}/{self._session_id}-{_slug(engine)}.parquet", table)
        except OSError as error:
            self._note(error)
        else:
            self._of_engine[engine] = {snapshot.probe_id: snapshot for snapshot in snapshots}

    def state_of(self, probe_id: str) -> bytes | None:
        """The newest state of this probe; None if it was never saved."""
        known = [held[probe_id] for held in (self._earlier, *self._of_engine.values()) if probe_id in held]
        return max(known, key=lambda snapshot: snapshot.steps).state if known else None


def _slug(engine: str) -> str:
    """A short name for the files of an engine: a model may have a name as long as a file's may be.

    Its 20 digits tell it from the 16 of a hash of content, which readers check.
    """
    return hashlib.sha256(engine.encode()).hexdigest()[:20]


def _keep_newest(kept: dict[str, Snapshot], snapshots: Sequence[Snapshot]) -> None:
    for snapshot in snapshots:
        if snapshot.probe_id not in kept or snapshot.steps > kept[snapshot.probe_id].steps:
            kept[snapshot.probe_id] = snapshot


def remove_snapshots(files: Files) -> None:
    """Remove all snapshots, once nothing is in flight; what cannot be removed stays, and no probe asks for it."""
    with contextlib.suppress(OSError):
        files.remove(*files.names(SNAPSHOT_FOLDER, suffix=".parquet"))
