"""The one writer of rows; a row that it has recorded is on disk.

Knows nothing of Ray, of torch, or of what the rows mean for a search.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.errors import BadInput
from orchestrator.search.bracket import Verdict
from orchestrator.store.compaction import COMPACT_FILES, compact
from orchestrator.store.files import Files
from orchestrator.store.parquet import read_probes, write_rows
from orchestrator.store.probe_columns import SharedColumns, rows_table, verdict_of
from tasks.values import COLD, Failed, Finished, Probe


class Recorder:
    """Appends rows of one session, and remembers the memories that later probes begin from."""

    def __init__(self, files: Files, shared: SharedColumns) -> None:
        """`files` refuse to be written once another session has taken over the run (orchestrator/store/held.py)."""
        self._files = files
        self._shared = shared
        self._recorded: dict[str, Verdict] = {}
        """probe_id -> the verdict that this session wrote: a second one is never written."""
        self._written: list[str] = []
        """Files of rows written since the last merge."""
        self._memories: dict[str, tuple[str, bytes, int]] = {}
        """search_id -> probe_id, memory and proven length of its best probe."""

    def record(self, finished: Sequence[Finished]) -> None:
        """Write one file with these rows; they count once this returns.

        Raises:
            OSError: when the rows could not be written; none of them is on disk then.
        """
        fresh: dict[tuple[str, int | None], Finished] = {}
        for item in finished:
            if item.probe.probe_id not in self._recorded:
                attempt = item.probe.attempt if isinstance(item.outcome, Failed) else None
                fresh.setdefault((item.probe.probe_id, attempt), item)
        finished = list(fresh.values())
        if not finished:
            return
        rows = rows_table(self._shared, finished)
        self._written.append(write_rows(self._files, self._shared.session_id, rows))
        for item in finished:
            if isinstance(item.outcome, Failed):
                continue
            self._recorded[item.probe.probe_id] = verdict_of(item)
            found = item.outcome.measurement
            self._remember(item.probe.search_id, item.probe.probe_id, found.memory, found.proven_length)
        if len(self._written) >= COMPACT_FILES:
            # The rows are on disk, merged or not, and the next write reports a fault of the disk.
            with contextlib.suppress(OSError, BadInput):
                compact(self._files, self._written, self._shared.session_id)
            self._written = []

    def recorded(self, probe_ids: Iterable[str]) -> list[Verdict]:
        """The verdicts of those of these probes that this session recorded."""
        return [self._recorded[probe_id] for probe_id in probe_ids if probe_id in self._recorded]

    def _remember(self, search_id: str, probe_id: str, memory: bytes | None, proven: int) -> None:
        best = self._memories.get(search_id)
        if memory is not None and (best is None or proven > best[2]):
            self._memories[search_id] = (probe_id, memory, proven)

    def give_memory(self, probe: Probe) -> Probe:
        """The probe with its start memory, if its start is warm."""
        if probe.start == COLD:
            return probe
        return replace(probe, start_memory=self._memory_of(probe.search_id, probe.start))

    def _memory_of(self, search_id: str, probe_id: str) -> bytes:
        """The memory in a probe's row, of this session or of an earlier one."""
        known = self._memories.get(search_id)
        if known is not None and known[0] == probe_id:
            return known[1]
        rows = read_probes(self._files, ("probe_id", "search_id", "attempt", "memory", "proven_length")).to_pylist()
        for row in rows:
            self._remember(row["search_id"], row["probe_id"], row["memory"], row["proven_length"] or 0)
        for row in rows:
            if row["probe_id"] == probe_id and row["memory"] is not None:
                return row["memory"]
        raise KeyError(f"no row of probe {probe_id} holds a memory")
