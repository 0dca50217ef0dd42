"""How fast a run goes and what is left of it, with answers worked out by hand."""

import pytest

from orchestrator.report.pace import ENOUGH_SEARCHES, FEWEST_NOTES, Pace, duration, seconds_left


def test_what_is_left_is_what_finished_searches_needed_less_what_was_run():
    # Finished ones ran 3 probes on average. Open: two that ran none (3 left each), one that ran 2 (1 left), and one
    # that ran 7 (at least 1 left): 8 probes, at 4 a minute.
    finished = {2: 3, 4: 3}
    assert seconds_left(finished=finished, unfinished={0: 2, 2: 1, 7: 1}, verdicts_per_minute=4) == pytest.approx(120)


def test_no_time_left_is_reported_until_enough_is_known():
    few, enough = {3: ENOUGH_SEARCHES - 1}, {3: ENOUGH_SEARCHES}
    assert seconds_left(finished=few, unfinished={0: 2}, verdicts_per_minute=4) is None
    assert seconds_left(finished=enough, unfinished={0: 2}, verdicts_per_minute=0) is None
    assert seconds_left(finished=enough, unfinished={0: 2}, verdicts_per_minute=4) == pytest.approx(90)


def test_nothing_is_left_when_no_search_is_open():
    assert seconds_left(finished={3: 2}, unfinished={4: 0}, verdicts_per_minute=0) == 0


def test_the_pace_is_that_of_the_last_minute():
    pace = Pace(100.0)
    assert pace.per_minute(110.0) is None
    for second in range(100, 160):
        pace.note(float(second), verdicts=1, searches=0)
    assert pace.per_minute(160.0) == (60, 0)
    for second in range(160, 260):
        pace.note(float(second), verdicts=3, searches=1)
    verdicts, searches = pace.per_minute(259.0) or (0, 0)
    assert verdicts == pytest.approx(180, rel=0.05)
    assert searches == pytest.approx(60, rel=0.05)


def test_where_probes_take_minutes_the_pace_goes_further_back():
    pace = Pace(0.0)
    for number in range(1, 100):
        pace.note(300.0 * number, verdicts=1, searches=0)
    verdicts, _ = pace.per_minute(300.0 * 99) or (0, 0)
    assert verdicts == pytest.approx(60 * FEWEST_NOTES / (300.0 * FEWEST_NOTES))


def test_a_standstill_shows():
    pace = Pace(0.0)
    pace.note(1.0, verdicts=10, searches=0)
    assert pace.per_minute(2.0) is None
    assert pace.per_minute(600.0) == (pytest.approx(1), 0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "1 s"), (40, "40 s"), (99.4, "99 s"), (720, "12 min"), (12_000, "3 h 20 min"), (190_800, "2 d 5 h")],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected
