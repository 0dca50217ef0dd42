"""The live view, drawn into terminals of known width that nobody looks at.

Long, as each state of a run has its view here.
"""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from orchestrator.execution.engine_progress import EngineProgress, engine_progress
from orchestrator.planning.plan import Sample
from orchestrator.report.live import LiveView, is_progress
from orchestrator.report.live_tables import MOST_ENGINES, MOST_MODELS
from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger, Search
from orchestrator.search.policy import SearchSettings
from tasks.values import EngineStats

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."


def sample_of(number: int, model: str = "org/model", text: str = TEXT, source: str = "files:{}.txt") -> Sample:
    return Sample(
        sample_id=f"sample-{number}",
        model=model,
        source=source.format(number),
        text_sha256="",
        text=text,
        tokens=tuple(range(len(text))),
        token_ends=tuple(range(1, len(text) + 1)),
        cut=False,
    )


def verdict(
    search_id: str, number: int, *, proven: int, outcome: str = "lossless", reason: str | None = None
) -> Verdict:
    return Verdict(
        probe_id=f"{search_id}/{number}",
        search_id=search_id,
        number=number,
        outcome=outcome,  # pyright: ignore[reportArgumentType]
        length=8,
        proven_length=proven,
        failed_length=proven + 1,
        reason=reason,
    )


class Shown:
    """A view of a run without an executor, and what stands on its screen."""

    def __init__(self, samples: list[Sample], *, width: int, terminal: bool = True) -> None:
        searches = [
            Search(
                search_id=f"search-{i}",
                model=sample.model,
                sample_id=sample.sample_id,
                num_vectors=1,
                seed=0,
                limit=60,
                limit_status="at_text_end",
            )
            for i, sample in enumerate(samples)
        ]
        self.ledger = Ledger(searches, SearchSettings(retries=0))
        self.printed = io.StringIO()
        self.console = Console(file=self.printed, width=width, height=50, force_terminal=terminal, color_system=None)
        by_id = {search.search_id: sample for search, sample in zip(searches, samples, strict=True)}
        self.view = LiveView(self.console, self.ledger, samples=by_id)

    def add(self, *verdicts: Verdict) -> None:
        for one in verdicts:
            self.ledger.record(one)
        self.view.show_verdicts(verdicts)

    @property
    def lines(self) -> list[str]:
        with self.console.capture() as captured:
            self.console.print(self.view._view())
        return captured.get().splitlines()

    @property
    def screen(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture(params=[80, 140])
def show(request: pytest.FixtureRequest) -> Callable[..., Shown]:
    def make(samples: list[Sample]) -> Shown:
        return Shown(samples, width=request.param)

    return make


def engine(number: int = 0, **changes: object) -> EngineProgress:
    running = {
        "num_slots": 16,
        "num_busy": 15,
        "tokens_per_second": 12_345.6,
        "steps_per_second": 4.2,
        "longest": 31,
        "state": "running",
    }
    return EngineProgress(**{"name": f"model gpu{number}", **running, **changes})  # pyright: ignore[reportArgumentType]


def test_verdicts_show_the_text_that_comes_back(show):
    shown = show([sample_of(number) for number in range(3)])
    shown.add(verdict("search-1", 0, proven=20))
    (line,) = [line for line in shown.lines if "files:1.txt" in line]
    assert line.split()[1:4] == ["8", "20", "lossless"]
    assert line.rstrip().endswith(TEXT[:20].rstrip())
    assert "1/3" in shown.screen


def test_time_left_is_shown_once_enough_is_known(show, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("orchestrator.report.live.time.monotonic", lambda: now[0])
    shown = show([sample_of(number) for number in range(8)])
    for number in range(4):
        now[0] += 2
        shown.add(verdict(f"search-{number}", 0, proven=20))
    assert "left" not in shown.screen
    assert "4 probes finished, 0 in flight; 30 probes and 30 searches a minute" in shown.screen
    now[0] += 2
    shown.add(verdict("search-4", 0, proven=20))
    assert "about 6 s left" in shown.lines[0]
    now[0] += 50
    assert "5.0 probes and 5.0 searches a minute" in shown.screen


def test_models_have_a_line_each_where_there_are_several(show):
    assert "model" not in show([sample_of(0)]).screen.split()
    shown = show([sample_of(0), sample_of(1), sample_of(2, "org/other")])
    shown.add(verdict("search-0", 0, proven=20))
    words = [line.split() for line in shown.lines]
    assert ["model", "1/2"] in words
    assert ["other", "0/1"] in words
    many = show([sample_of(number, f"org/model-{number}") for number in range(20)])
    assert sum("model-" in line for line in many.lines) == MOST_MODELS
    assert ["14", "more", "0/14"] in [line.split() for line in many.lines]


def test_engines_are_shown_and_many_are_summed_up(show):
    shown = show([sample_of(0)])
    shown.view.show_engines([engine()])
    assert ["model", "gpu0", "15/16", "4.2", "12,346", "31", "running"] in [line.split() for line in shown.lines]
    many = [engine(number) for number in range(99)]
    shown.view.show_engines([*many, engine(99, state="lost", num_busy=0, num_slots=0, tokens_per_second=0.0)])
    assert sum("gpu" in line for line in shown.lines) == MOST_ENGINES - 1
    assert "model gpu99" in shown.screen
    (all_of_them,) = [line for line in shown.lines if line.startswith("all 100")]
    assert all_of_them.split()[2:] == ["1485/1584", "1,222,214", "31", "99", "running,", "1", "lost"]


HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold]x[/] [/nothing]\u202eabc\r\n\x9b31m\ttab"


def test_nothing_in_texts_names_and_reasons_commands_the_terminal(show):
    hostile = sample_of(0, HOSTILE, HOSTILE, "files:" + HOSTILE)
    shown = show([hostile, sample_of(1, "b")])
    shown.add(verdict("search-0", 0, proven=len(HOSTILE)))
    shown.add(verdict("search-0", 1, proven=0, outcome="failed", reason=HOSTILE))
    shown.view.show_engines([engine(name=HOSTILE)])
    screen = shown.screen
    assert not set("\x1b\x07\x9b\u202e\r") & set(screen)
    assert "[bold]x[/]" in screen
    # Bar, pace, two models, an engine, two verdicts, and three headers: no line break of theirs made another line.
    assert len(shown.lines) == 10
    assert max(map(len, shown.lines)) <= shown.console.width


def test_long_names_are_cut_and_numbers_are_not(show):
    long = [
        sample_of(number, f"org/{'long-' * 9}{number}", TEXT * 9, f"files:{'long/' * 9}{{}}.txt") for number in (0, 1)
    ]
    shown = show(long)
    shown.add(verdict("search-0", 0, proven=600))
    shown.view.show_engines(
        [engine(number, name="an engine " * 9, tokens_per_second=123_456_789) for number in range(8)]
    )
    assert max(map(len, shown.lines)) <= shown.console.width
    for number in ("123,456,789", "600", "15/16", "0/1", "1/1"):
        assert number in shown.screen


def test_plain_lines_where_it_is_no_terminal(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("orchestrator.report.live.time.monotonic", lambda: now[0])
    shown = Shown([sample_of(number) for number in range(8)], width=80, terminal=False)
    with shown.view as view:
        for number in range(6):
            now[0] += 6.0
            shown.add(verdict(f"search-{number}", 0, proven=20))
            view.show_engines([engine()])
    assert shown.printed.getvalue().splitlines() == [
        "00:12  2 of 8 searches done, 2 probes finished, 0 in flight",
        "00:24  4 of 8 searches done, 4 probes finished, 0 in flight",
        "00:36  6 of 8 searches done, 6 probes finished, 0 in flight, about 12 s left",
    ]
    # By these lines `capsweep status` tells how far a job on a cluster is.
    assert all(map(is_progress, shown.printed.getvalue().splitlines()))
    assert not is_progress("toy: 8 searches, 8 open, in runs/toy")


def test_before_the_first_verdict_a_plain_line_shows_what_was_reached(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("orchestrator.report.live.time.monotonic", lambda: now[0])
    shown = Shown([sample_of(0)], width=80, terminal=False)
    with shown.view as view:
        now[0] = 11.0
        view.show_engines([engine(longest=0)])
        now[0] = 22.0
        view.show_engines([engine(longest=17)])
    assert shown.printed.getvalue().splitlines() == [
        "00:11  0 of 1 search done, 0 probes finished, 0 in flight",
        "00:22  0 of 1 search done, 0 probes finished, 0 in flight; 4.2 steps a second, 17 tokens reached",
    ]


def test_rates_are_those_since_the_last_report():
    before = EngineStats(steps=10, trained_tokens=1000, longest=5)
    line = engine_progress(
        "m",
        state="running",
        num_slots=4,
        num_busy=9,
        stats=EngineStats(steps=30, trained_tokens=5000, longest=9),
        before=before,
        seconds=4.0,
    )
    assert (line.steps_per_second, line.tokens_per_second, line.longest, line.num_busy) == (5.0, 1000.0, 9, 4)


class Resized:
    """What a view writes to a terminal before and after it was resized."""

    def __init__(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        shown = Shown([sample_of(number) for number in range(9)], width=before[0])
        shown.console.size = before
        shown.view.show_message("toy: 9 searches, 9 open, in runs/toy")
        with shown.view:
            shown.view.show_engines([engine(0), engine(1)])
            shown.add(verdict("search-1", 0, proven=20))
            with shown.view._live._lock:  # the view is not drawn in between
                shown.console.size = after
                at = len(shown.printed.getvalue())
            shown.view._live.refresh()  # a thread does so four times a second
            shown.view.show_message("an engine was lost")
            self.drawn = shown.printed.getvalue()
        self.first, self.then = self.drawn[:at], self.drawn[at:]
        self.last = shown.printed.getvalue()[len(self.drawn) :]


SIZES = [((120, 40), (60, 40)), ((60, 40), (120, 40)), ((100, 30), (40, 12)), ((80, 24), (80, 8)), ((80, 24), (1, 1))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_a_terminal_that_is_resized_is_cleared_once_and_then_drawn(before, after):
    resized = Resized(before, after)
    home = "\x1b[H"
    assert home not in resized.first
    assert resized.then.startswith(f"{home}{chr(27)}[2K")
    _, lines, rest = resized.then.split(home)
    assert lines == "\x1b[2K\x1b[1B" * after[1]
    assert "toy: 9 searches" in rest.split("\n")[0]
    assert home not in resized.last


@pytest.mark.parametrize(("before", "after"), SIZES[:-1])
def test_on_a_screen_no_rubbish_is_left(before, after):
    pyte = pytest.importorskip("pyte", reason="reads escape codes as a terminal does")
    resized = Resized(before, after)
    screen = pyte.Screen(*before)
    stream = pyte.Stream(screen)

    def lines() -> list[str]:
        return [line.rstrip() for line in screen.display if line.strip()]

    stream.feed(resized.first.replace("\n", "\r\n"))
    assert lines()[0].startswith("toy: 9 searches")
    screen.resize(after[1], after[0])
    stream.feed(resized.then.replace("\n", "\r\n"))
    assert sum("slots busy" in line for line in lines()) <= 1
    assert sum(line.startswith("searches ") for line in lines()) <= 1
    stream.feed(resized.last.replace("\n", "\r\n"))
    # What was said before a drawing that fills the screen has scrolled away.
    assert after[1] < 10 or lines()[-1] == "an engine was lost"
    assert all(line.startswith(("toy:", "an engine", "open, in", "runs/toy")) for line in lines())


def test_a_terminal_without_control_codes_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    now = [0.0]
    monkeypatch.setattr("orchestrator.report.live.time.monotonic", lambda: now[0])
    shown = Shown([sample_of(0)], width=80)
    with shown.view:
        now[0] += 20
        shown.view.show_engines([engine()])
    assert "0 of 1 search done" in shown.printed.getvalue()
    assert "\x1b" not in shown.printed.getvalue()
