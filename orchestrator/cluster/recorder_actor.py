"""The recorder as a Ray actor on the driver's node: the one writer of rows, and the desk where cohorts lie ready.

Calls of many trials become one file: whoever records waits until the file that holds its rows is durable.
"""

import threading
from collections.abc import Sequence

from orchestrator.search.bracket import Verdict
from orchestrator.session import new_recorder
from orchestrator.store.rows import RowContext
from tasks.contract import Finished, Probe

GATHER_SECONDS = 0.2
STAGE_SECONDS = 60.0
"""A trial starts within milliseconds of its cohort being staged; so long a wait means that the driver is gone."""


class RecorderActor:
    """Group commit of rows, and cohorts handed from the searcher to their trials."""

    def __init__(self, url: str, context: RowContext) -> None:
        self._recorder = new_recorder(url, context)
        self._changed = threading.Condition()
        self._staged: dict[str, Sequence[Probe] | Exception] = {}
        self._pending: list[_Recording] = []
        threading.Thread(target=self._write_gathered, name="recorder", daemon=True).start()

    def stage(self, cohort_id: str, probes: Sequence[Probe]) -> None:
        """Lay a cohort ready, with the memories that its warm probes begin from."""
        staged: Sequence[Probe] | Exception
        try:
            staged = [self._recorder.give_memory(probe) for probe in probes]
        except Exception as fault:
            staged = fault
        with self._changed:
            self._staged[cohort_id] = staged
            self._changed.notify_all()

    def claim(self, cohort_id: str, *, wait: bool) -> Sequence[Probe]:
        """The probes of a cohort that lie ready; they can be claimed once.

        Args:
            cohort_id: Whose.
            wait: Whether some must come; else none may lie ready.

        Raises:
            TimeoutError: when nobody staged it.
            Exception: what kept it from being staged.
        """
        with self._changed:
            seconds = STAGE_SECONDS if wait else 0.0
            if not self._changed.wait_for(lambda: cohort_id in self._staged, timeout=seconds) and wait:
                raise TimeoutError(f"{cohort_id} was not staged within {STAGE_SECONDS:.0f} s")
            staged = self._staged.pop(cohort_id, [])
        if isinstance(staged, Exception):
            raise staged
        return staged

    def record(self, finished: Sequence[Finished]) -> None:
        """Return once these rows are durable; raises what the disk said if they could not be written."""
        recording = _Recording(finished)
        with self._changed:
            self._pending.append(recording)
            self._changed.notify_all()
        recording.written.wait()
        if recording.fault is not None:
            raise recording.fault

    def recorded(self, probe_ids: Sequence[str]) -> list[Verdict]:
        """The verdicts on disk of those of these probes that this session recorded."""
        return self._recorder.recorded(probe_ids)

    def _write_gathered(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending)
            # Others that finish meanwhile share the file.
            threading.Event().wait(GATHER_SECONDS)
            with self._changed:
                gathered, self._pending = self._pending, []
            try:
                self._recorder.record([item for recording in gathered for item in recording.finished])
            except Exception as fault:
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
