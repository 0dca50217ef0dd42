"""The recorder as a Ray actor on the driver's node: the one writer of rows, which also passes assignments to trials.

Calls of many trials become one file: each caller waits until the file with its rows is durable.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.runs.session import new_recorder
from orchestrator.search.bracket import Verdict
from orchestrator.store.files import open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.probe_columns import SharedColumns
from orchestrator.store.snapshots import Snapshots
from tasks.values import Finished, Probe, Snapshot

GATHER_SECONDS = 0.2
"""How long rows wait for those of other trials, to be written in one file with them."""
STAGE_SECONDS = 60.0
"""A trial starts within milliseconds of its assignment being staged; a longer wait means that the driver is gone."""


class RecorderActor:
    """Writes rows in groups, and hands assignments from the searcher to their trials."""

    def __init__(self, url: str, shared: SharedColumns) -> None:
        self._title = f"recorder of {shared.run_id}"
        self._recorder = new_recorder(url, shared)
        self._snapshots = Snapshots(HeldFiles(open_files(url), shared.session_id), shared.session_id)
        self._changed = threading.Condition()
        self._staged: dict[str, list[Probe]] = {}
        """assignment_id -> all its probes so far; removed when the assignment is released."""
        self._num_claimed: dict[str, int] = {}
        self._stage_faults: dict[str, Exception] = {}
        self._pending: list[_Recording] = []
        self._fault: Exception | None = None
        self._lacking = 0
        threading.Thread(target=self._write_gathered, name="recorder", daemon=True).start()

    def __repr__(self) -> str:
        """Its name on the dashboard."""
        return self._title

    def stage(self, assignment_id: str, probes: Sequence[Probe]) -> None:
        """Hold probes of an assignment ready to be claimed, with the memories and snapshots that they begin from."""
        fault, equipped = None, []
        try:
            for probe in map(self._recorder.give_memory, probes):
                equipped.append(replace(probe, snapshot=self._snapshots.state_of(probe.probe_id)))
        except Exception as error:
            fault = error
        with self._changed:
            self._staged.setdefault(assignment_id, []).extend(equipped)
            if fault is not None:
                self._stage_faults[assignment_id] = fault
            self._changed.notify_all()

    def claim(self, assignment_id: str, *, anew: bool) -> Sequence[Probe]:
        """The staged probes of an assignment that were not claimed yet.

        Args:
            assignment_id: Assignment of the probes.
            anew: Whether a new trial follows the assignment: then all its probes, and the call waits for them.

        Raises:
            TimeoutError: when it is not staged in time.
            Exception: the error that staging it raised.
        """
        with self._changed:
            seconds = STAGE_SECONDS if anew else 0.0
            if not self._changed.wait_for(lambda: assignment_id in self._staged, timeout=seconds) and anew:
                raise TimeoutError(f"{assignment_id} was not staged within {STAGE_SECONDS:.0f} s")
            if (fault := self._stage_faults.get(assignment_id)) is not None:
                raise fault
            staged = self._staged.get(assignment_id, [])
            first = 0 if anew else self._num_claimed.get(assignment_id, 0)
            self._num_claimed[assignment_id] = len(staged)
            return staged[first:]

    def release(self, assignment_id: str) -> None:
        """Drop this assignment; no trial will claim it again."""
        with self._changed:
            self._staged.pop(assignment_id, None)
            self._num_claimed.pop(assignment_id, None)
            self._stage_faults.pop(assignment_id, None)

    def save_snapshots(self, engine: str, snapshots: Sequence[Snapshot]) -> None:
        """Save the probes that an engine holds."""
        self._snapshots.save(engine, snapshots)

    def snapshot_faults(self) -> str | None:
        """The faults of snapshots so far; None if there were none."""
        return self._snapshots.faults

    def report_lacking(self, num_engines: int) -> None:
        """Set how many engines of its share of the cluster this run lacks."""
        self._lacking = num_engines

    def lacking(self) -> int:
        """Engines of its share that this run lacks; other runs on the cluster ask for it."""
        return self._lacking

    def fault(self) -> Exception | None:
        """The error that kept rows from being written; None if there was none."""
        return self._fault

    def record(self, finished: Sequence[Finished]) -> None:
        """Return once these rows are durable; raises the error that kept them from being written."""
        recording = _Recording(finished)
        with self._changed:
            self._pending.append(recording)
            self._changed.notify_all()
        recording.written.wait()
        if recording.fault is not None:
            raise recording.fault

    def recorded(self, probe_ids: Sequence[str]) -> list[Verdict]:
        """The verdicts of those of these probes whose rows this session has written."""
        return self._recorder.recorded(probe_ids)

    def _write_gathered(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending)
            # Rows that arrive meanwhile share the file.
            threading.Event().wait(GATHER_SECONDS)
            with self._changed:
                gathered, self._pending = self._pending, []
            try:
                self._recorder.record([item for recording in gathered for item in recording.finished])
            except Exception as fault:
                self._fault = fault
                for recording in gathered:
                    recording.fault = fault
            for recording in gathered:
                recording.written.set()


class _Recording:
    """Rows of one trial on their way to disk."""

    def __init__(self, finished: Sequence[Finished]) -> None:
        self.finished = finished
        self.written = threading.Event()
        self.fault: Exception | None = None
