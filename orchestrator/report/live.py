"""What a run says while it goes on: a live line in a terminal, plain lines elsewhere.

Knows nothing of who computes: it reads the ledger when told that something happened.
"""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from orchestrator.errors import literal
from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger

LAST_VERDICTS = 5
PLAIN_SECONDS = 10.0
"""A plain line is printed at most so often."""


class LiveView:
    """Progress of one session, as a context manager."""

    def __init__(self, console: Console, ledger: Ledger, *, sources: dict[str, str]) -> None:
        """`sources` names each search's text by search_id."""
        self._console = console
        self._ledger = ledger
        self._sources = sources
        self._verdicts: list[Verdict] = []
        self._num_verdicts = 0
        self._started = self._printed = time.monotonic()
        self._progress = Progress(
            TextColumn("searches"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._bar = self._progress.add_task("searches", total=ledger.num_searches, completed=self._num_done)
        self._live = Live(self._view(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.__exit__(kind, error, trace)

    @property
    def _num_done(self) -> int:
        return self._ledger.num_searches - self._ledger.num_open

    def heard(self, verdicts: Sequence[Verdict]) -> None:
        """Show verdicts whose rows are on disk."""
        self._num_verdicts += len(verdicts)
        self._verdicts = [*self._verdicts, *verdicts][-LAST_VERDICTS:]
        if self._console.is_terminal:
            self._live.update(self._view())
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(self._line(), highlight=False)

    def say(self, said: str) -> None:
        """Show a line that stays."""
        self._console.print(said, markup=False, highlight=False, soft_wrap=True)

    def _line(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return (
            f"{minutes:02d}:{seconds:02d}  {self._num_done} of {self._ledger.num_searches} searches done, "
            f"{self._num_verdicts} probes finished, {self._ledger.num_in_flight} in flight"
        )

    def _view(self) -> Group:
        self._progress.update(self._bar, completed=self._num_done)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("text", "asked", "proven", "verdict"):
            table.add_column(name, style="dim" if name == "verdict" else "", justify="left")
        for verdict in self._verdicts:
            table.add_row(
                Text(literal(self._sources[verdict.search_id])),
                str(verdict.length),
                str(verdict.proven_length),
                Text(literal(verdict.reason or verdict.outcome)),
            )
        return Group(self._progress, Text(self._line(), style="dim"), table)
