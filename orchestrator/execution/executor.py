"""The protocol of executors, in this process and on Ray, and of what watches a session."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session
from orchestrator.search.bracket import Verdict
from tasks.values import EngineStats


class Watcher:
    """Is told about the progress of a session. This one ignores it; the live view shows it."""

    def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Probes have finished: their rows are on disk, and the ledger has recorded them."""

    def show_engines(self, progress: Sequence[EngineProgress]) -> None:
        """What all engines are doing, about once a second."""

    def show_message(self, message: str) -> None:
        """A line for the user, such as where the cluster can be watched."""


class SnapshotFaults:
    """Shows a fault of snapshots once when it happens, and how many there were at the end: none ends a session."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._shown: str | None = None

    def show(self, faults: str | None) -> None:
        """Show the faults so far (`Snapshots.faults`), unless some were shown before."""
        if self._shown is None:
            self.conclude(faults)

    def conclude(self, faults: str | None) -> None:
        """Show all faults of the session, unless that was shown before."""
        if faults != self._shown and faults is not None:
            self._watcher.show_message(faults)
            self._shown = faults


class Executor(Protocol):
    """Runs the open searches of a session."""

    def run(self, session: Session, *, stop: Stop, watcher: Watcher) -> EngineStats:
        """Run until no search is open or `stop` is true.

        The ledger records a verdict, and the watcher shows it, once its row is on disk. When `stop` ends the run,
        probes in flight are saved and their searches stay open. Nothing is left running, even after an error.

        Args:
            session: The session; its sweep states the engines.
            stop: Checked after every step in this process; on Ray, whenever Tune looks for work.
            watcher: Called from the thread that runs this.

        Returns:
            What the engines have done, in total.

        Raises:
            BadInput: when the machine or cluster lacks what the sweep asks for.
            TaskError: when an engine cannot load its model.
            OSError: when rows cannot be written.
            SessionFaultError: when an engine breaks down.
        """
        ...
