"""How many probes a trial gets: numbers worked out by hand, and what holds for any engine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.trial_sizing import (
    BATCHES_IN_FLIGHT,
    EngineOccupancy,
    most_trials,
    new_trial_size,
    top_up_size,
    trials_per_engine,
    trials_running,
)

IDLE = EngineOccupancy(num_slots=16, in_flight=0, num_trials=0, num_ready=1000, share=1000)


@pytest.mark.parametrize(("engines", "running"), [(0, 1), (1, 2), (2, 4), (8, 16), (16, 16), (17, 17), (100, 100)])
def test_two_trials_an_engine_up_to_sixteen_then_one(engines, running):
    assert trials_running(engines) == running
    assert most_trials(engines) == running + 2


@pytest.mark.parametrize(
    ("engines", "wanted", "each"), [(1, 1, 4), (2, 2, 3), (16, 16, 1), (100, 100, 1), (2, 1, 6), (1, 0, 4)]
)
def test_trials_that_one_engine_serves(engines, wanted, each):
    assert trials_per_engine(num_engines=engines, num_wanted=wanted) == each


class TestNewTrial:
    @pytest.mark.parametrize(("per_engine", "size"), [(1, 40), (4, 10), (10, 4), (40, 4)])
    def test_all_trials_together_fill_the_engine_and_none_is_below_a_quarter_of_its_slots(self, per_engine, size):
        assert new_trial_size(IDLE, per_engine=per_engine, probes_per_trial=None) == size

    def test_it_takes_no_more_than_the_share_of_its_engine(self):
        assert new_trial_size(replace(IDLE, share=3), per_engine=4, probes_per_trial=None) == 3
        assert new_trial_size(replace(IDLE, share=0), per_engine=4, probes_per_trial=None) == 1

    def test_one_probe_a_trial_is_one_optimization_task(self):
        sizes = [new_trial_size(replace(IDLE, in_flight=n), per_engine=99, probes_per_trial=1) for n in (0, 39, 40)]
        assert sizes == [1, 1, 0]

    def test_an_engine_that_serves_enough_trials_gets_none(self):
        assert new_trial_size(replace(IDLE, num_trials=3), per_engine=4, probes_per_trial=None) == 10
        assert new_trial_size(replace(IDLE, num_trials=4), per_engine=4, probes_per_trial=None) == 0

    def test_without_a_search_that_waits_there_is_none(self):
        assert new_trial_size(replace(IDLE, num_ready=0), per_engine=4, probes_per_trial=None) == 0

    @pytest.mark.parametrize(("in_flight", "size"), [(16, 10), (17, 0)])
    def test_a_busy_engine_waits_until_a_whole_trial_has_gathered(self, in_flight, size):
        load = replace(IDLE, in_flight=in_flight, num_ready=9)
        assert new_trial_size(load, per_engine=4, probes_per_trial=None) == size


class TestTopUp:
    @pytest.mark.parametrize(("in_flight", "size"), [(0, 20), (13, 7), (20, 0), (33, 0)])
    def test_up_to_a_quarter_more_than_the_slots(self, in_flight, size):
        load = replace(IDLE, in_flight=in_flight, num_trials=1)
        assert top_up_size(load, per_engine=1, probes_per_trial=None) == size

    def test_no_more_than_the_share_of_its_engine(self):
        load = replace(IDLE, in_flight=5, num_trials=1, share=8)
        assert top_up_size(load, per_engine=1, probes_per_trial=None) == 3

    def test_none_while_a_further_trial_may_start_or_where_the_sweep_fixes_the_size(self):
        assert top_up_size(replace(IDLE, num_trials=1), per_engine=2, probes_per_trial=None) == 0
        assert top_up_size(replace(IDLE, num_trials=2), per_engine=2, probes_per_trial=8) == 0


@given(
    num_slots=st.integers(1, 500),
    in_flight=st.integers(0, 1500),
    num_trials=st.integers(0, 5),
    num_ready=st.integers(0, 2000),
    share=st.integers(0, 2000),
    per_engine=st.integers(1, 6),
    probes_per_trial=st.none() | st.integers(1, 300),
)
def test_probes_in_flight_stay_bounded_and_an_idle_engine_never_starves(
    num_slots, in_flight, num_trials, num_ready, share, per_engine, probes_per_trial
):
    load = EngineOccupancy(
        num_slots=num_slots, in_flight=in_flight, num_trials=num_trials, num_ready=num_ready, share=share
    )
    size = new_trial_size(load, per_engine=per_engine, probes_per_trial=probes_per_trial)
    more = top_up_size(load, per_engine=per_engine, probes_per_trial=probes_per_trial)
    assert not (size and more)
    if in_flight:
        assert size == 0 or in_flight + size <= BATCHES_IN_FLIGHT * num_slots
    elif num_ready and num_trials < per_engine:
        assert size >= 1
    if more:
        assert in_flight + more <= share
