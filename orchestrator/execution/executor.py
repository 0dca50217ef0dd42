"""What carries out a session, and who watches it: one protocol for this process and for Ray."""

from collections.abc import Sequence
from typing import Protocol

from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session
from orchestrator.search.bracket import Verdict
from tasks.values import EngineStats


class Watcher:
    """Is told how a session goes on. This one tells nobody; the live view is another."""

    def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Probes have finished: their rows are on disk, and the ledger knows."""

    def show_engines(self, progress: Sequence[EngineProgress]) -> None:
        """What all engines do now, about once a second."""

    def show_message(self, message: str) -> None:
        """A line for the user, such as where the cluster can be watched."""


class Executor(Protocol):
    """Runs the open searches of a session."""

    def run(self, session: Session, *, stop: Stop, watcher: Watcher) -> EngineStats:
        """Run until no search is open or `stop` is true.

        A verdict is recorded by the ledger, and shown, once its row is on disk. When `stop` ends the run, probes in
        flight are saved and their searches stay open. Nothing is left running, whatever happens.

        Args:
            session: The run; its sweep states the engines.
            stop: Asked at least twice a second.
            watcher: Told from the thread that runs this.

        Returns:
            What the engines have done.

        Raises:
            BadInput: when the sweep asks for what is not there.
            TaskError: when an engine cannot load its model.
            OSError: when rows could not be written.
            SessionFaultError: when an engine broke down.
        """
        ...
