"""Live progress of a run: a view that is redrawn in a terminal or notebook, plain lines elsewhere.

Knows nothing of executors: it receives verdicts and the states of engines, and reads the ledger.
"""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import ControlType
from rich.text import Text

from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.executor import Watcher
from orchestrator.planning.plan import Sample
from orchestrator.progress import can_redraw
from orchestrator.report.live_tables import engines_table, models_table, rate, verdict_line, verdicts_table
from orchestrator.report.pace import Pace, duration, seconds_left
from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger
from tasks.wording import counted

LAST_VERDICTS = 5
"""Verdicts that stay in view: with bar, models and engines, the view fits into a terminal of 24 lines."""
BAR_WIDTH = 24
"""Leaves room for the time left in a terminal of 80 columns."""
PLAIN_SECONDS = 10.0
"""Least time between two plain lines."""
PLAIN_LINE = re.compile(r"\d+:\d\d  [\d,]+ of [\d,]+ search(es)? done, ")
"""How a plain line begins."""


def is_progress(line: str) -> bool:
    """Whether this line of a session's output is a plain line of its progress."""
    return PLAIN_LINE.match(line) is not None


class _Redrawn(Live):
    """A live display that begins on an empty screen when the terminal was resized.

    A terminal that is resized cuts the lines that it shows, or breaks them anew. So nobody knows how many lines the
    last drawing takes now, and drawing over it would leave parts of it.
    """

    def __init__(self, view: RenderableType, *, console: Console, said: Sequence[Text]) -> None:
        """`said` are the lines above the display, which an empty screen shows again."""
        super().__init__(view, console=console, refresh_per_second=4, transient=True)
        self._said = said
        self._size: ConsoleDimensions | None = None

    def refresh(self) -> None:
        """Draw the display again."""
        with self._lock:
            before, self._size = self._size, self.console.size
            if before not in (None, self._size):
                # Line by line: clearing the screen as a whole would move what it shows into tmux's history.
                lines = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_DOWN, 1)] * self._size.height
                self.console.control(Control(ControlType.HOME, *lines, ControlType.HOME))
                for line in self._said:
                    self.console.print(line, soft_wrap=True)
            super().refresh()


class LiveView(Watcher):
    """Progress of one session, as a context manager."""

    def __init__(
        self, console: Console, ledger: Ledger, *, samples: Mapping[str, Sample], verbose: bool = False
    ) -> None:
        """`samples` maps the search_id of each search to its sample; `verbose` prints a line for each verdict."""
        self._console = console
        self._ledger = ledger
        self._samples = samples
        self._verbose = verbose
        self._verdicts: list[Verdict] = []
        self._engines: Sequence[EngineProgress] = ()
        self._num_verdicts = 0
        self._started = self._printed = time.monotonic()
        self._pace = Pace(self._started)
        self._of_model = Counter(sample.model for sample in samples.values())
        self._probes = {search_id: ledger.bracket(search_id).num_answered for search_id in samples}
        self._open = {search_id for search_id in samples if ledger.status(search_id) == "open"}
        self._unfinished = Counter(self._probes[search_id] for search_id in self._open)
        self._finished = Counter(self._probes.values()) - self._unfinished
        self._progress = Progress(
            TextColumn("searches"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._bar = self._progress.add_task("searches", total=ledger.num_searches, left="")
        # Elsewhere, plain lines.
        self._redraws = can_redraw(console)
        self._said: list[Text] = []
        self._live = _Redrawn(self._view(), console=console, said=self._said)

    def __enter__(self) -> "LiveView":
        if self._redraws:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redraws:
            self._live.__exit__(kind, error, trace)

    @property
    def _num_done(self) -> int:
        return self._ledger.num_searches - self._ledger.num_open

    def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Show verdicts whose rows are on disk."""
        done_before = len(self._open)
        for verdict in verdicts:
            self._count(verdict.search_id)
        self._pace.note(time.monotonic(), verdicts=len(verdicts), searches=done_before - len(self._open))
        self._num_verdicts += len(verdicts)
        self._verdicts = [*self._verdicts, *verdicts][-LAST_VERDICTS:]
        if self._verbose:
            for verdict in verdicts:
                line = verdict_line(verdict, self._samples[verdict.search_id])
                self._console.print(Text(line), soft_wrap=True)
        if self._redraws:
            self._live.update(self._view())
        else:
            self._print_in_time()

    def show_engines(self, progress: Sequence[EngineProgress]) -> None:
        """Show the state of all engines; called about once a second."""
        self._engines = progress
        if self._redraws:
            self._live.update(self._view())
        else:
            self._print_in_time()

    def show_message(self, message: str) -> None:
        """Print a line that is not redrawn."""
        self.show_line(Text(message))

    def show_line(self, line: Text) -> None:
        """The same for a line with a style."""
        self._said.append(line)
        self._console.print(line, soft_wrap=True)

    def _print_in_time(self) -> None:
        """Print a plain line, unless the last one was printed less than PLAIN_SECONDS ago."""
        if time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(self._line(), highlight=False, soft_wrap=True)

    def _count(self, search_id: str) -> None:
        """Update how many probes a search has run, and whether it has finished."""
        if search_id not in self._open:
            return
        self._unfinished[self._probes[search_id]] -= 1
        self._probes[search_id] = self._ledger.bracket(search_id).num_answered
        if self._ledger.status(search_id) == "open":
            self._unfinished[self._probes[search_id]] += 1
        else:
            self._open.remove(search_id)
            self._finished[self._probes[search_id]] += 1

    def _line(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        left = self._left()
        return (
            f"{minutes:02d}:{seconds:02d}  {self._num_done} of {counted(self._ledger.num_searches, 'search')} done, "
            f"{counted(self._num_verdicts, 'probe')} finished, {self._ledger.num_in_flight} in flight"
            f"{left and ', '}{left}{'' if self._num_verdicts else self._before_the_first()}"
        )

    def _before_the_first(self) -> str:
        """Progress to show before the first verdict."""
        longest = max((line.longest for line in self._engines), default=0)
        steps = sum(line.steps_per_second for line in self._engines)
        return f"; {rate(steps)} steps a second, {counted(longest, 'token')} reached" if longest else ""

    def _left(self) -> str:
        """The time left; empty until it can be estimated, and when nothing is left."""
        if (pace := self._pace.per_minute(time.monotonic())) is None:
            return ""
        seconds = seconds_left(finished=self._finished, unfinished=self._unfinished, verdicts_per_minute=pace[0])
        return f"about {duration(seconds)} left" if seconds else ""

    def _pace_line(self) -> str:
        pace = self._pace.per_minute(time.monotonic())
        lately = "" if pace is None else f"; {rate(pace[0])} probes and {rate(pace[1])} searches a minute"
        return f"{counted(self._num_verdicts, 'probe')} finished, {self._ledger.num_in_flight:,} in flight{lately}"

    def _view(self) -> Group:
        self._progress.update(self._bar, completed=self._num_done, left=self._left())
        parts: list[RenderableType] = [self._progress, Text(self._pace_line(), style="dim")]
        if len(self._of_model) > 1:
            done = {name: of - self._ledger.num_open_of(name) for name, of in self._of_model.items()}
            parts.append(models_table(done, self._of_model))
        if self._engines:
            parts.append(engines_table(self._engines))
        if self._verdicts:
            parts.append(verdicts_table([(verdict, self._samples[verdict.search_id]) for verdict in self._verdicts]))
        return Group(*parts)
