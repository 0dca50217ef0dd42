from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from orchestrator.search.bracket import Bracket, Verdict, fold
from orchestrator.search.policy import MACHINE_FAILURES, Lengths, NextProbe, SearchSettings, next_probe, status_of
from tasks.values import COLD

SETTINGS = SearchSettings(retries=2)


def bracket(
    *, proven: int = 0, stalls: int = 0, num_answered: int = 0, attempts: Mapping[int, int] | None = None
) -> Bracket:
    return Bracket(
        proven=proven,
        proven_by="best" if proven else None,
        failures=MappingProxyType({proven + 1: stalls}),
        stalls=stalls,
        num_answered=num_answered,
        attempts=MappingProxyType(dict(attempts or {})),
    )


def test_a_search_begins_short_and_cold():
    step = next_probe(bracket(), Lengths(limit=100), SETTINGS)
    assert step is not None
    assert (step.number, step.length, step.start) == (0, 8, "cold")


def test_no_step_asks_beyond_the_limit():
    step = next_probe(bracket(), Lengths(limit=3), SETTINGS)
    assert step is not None
    assert step.length == 3


def test_after_a_stall_the_best_memory_and_a_cold_start_take_turns():
    first = next_probe(bracket(proven=12, stalls=1, num_answered=1), Lengths(limit=100), SETTINGS)
    second = next_probe(bracket(proven=12, stalls=2, num_answered=2), Lengths(limit=100), SETTINGS)
    assert first is not None
    assert second is not None
    assert (first.number, first.length, first.start) == (1, 13, "best")
    assert (second.number, second.length, second.start) == (2, 6, "cold")


def test_a_search_without_any_proof_starts_cold_again_at_one_token():
    step = next_probe(bracket(stalls=1, num_answered=1), Lengths(limit=100), SETTINGS)
    assert step is not None
    assert (step.length, step.start) == (1, "cold")


def test_a_search_ends_after_its_retries():
    done = bracket(proven=12, stalls=3, num_answered=3)
    assert next_probe(done, Lengths(limit=100), SETTINGS) is None
    assert status_of(done, Lengths(limit=100), SETTINGS) == "measured"


def test_a_search_that_reaches_its_limit_has_the_status_of_that_limit():
    done = bracket(proven=100, num_answered=1)
    assert next_probe(done, Lengths(limit=100), SETTINGS) is None
    assert status_of(done, Lengths(limit=100, limit_status="at_model_limit"), SETTINGS) == "at_model_limit"


def test_the_machine_may_fail_a_few_times():
    failing = bracket(attempts={0: MACHINE_FAILURES - 1})
    step = next_probe(failing, Lengths(limit=100), SETTINGS)
    assert step is not None
    assert step.attempt == MACHINE_FAILURES - 1
    failed = bracket(attempts={0: MACHINE_FAILURES})
    assert next_probe(failed, Lengths(limit=100), SETTINGS) is None
    assert status_of(failed, Lengths(limit=100), SETTINGS) == "failed"


def test_a_probe_that_the_machine_cut_short_is_followed_from_its_memory():
    cut = replace(bracket(proven=12, num_answered=1), failures={}, cut_short=True)
    step = next_probe(cut, Lengths(limit=100), SETTINGS)
    assert step is not None
    assert (step.number, step.length, step.start) == (1, 13, "best")
    again = replace(cut, attempts={1: MACHINE_FAILURES})
    assert next_probe(again, Lengths(limit=100), SETTINGS) is None
    assert status_of(again, Lengths(limit=100), SETTINGS) == "failed"


def test_what_is_forgiven_is_tried_as_often_again():
    forgiven = replace(bracket(attempts={0: MACHINE_FAILURES}), forgiven={0: MACHINE_FAILURES})
    step = next_probe(forgiven, Lengths(limit=100), SETTINGS)
    assert step is not None
    assert (step.number, step.attempt) == (0, MACHINE_FAILURES)
    again = replace(forgiven, attempts={0: 2 * MACHINE_FAILURES})
    assert next_probe(again, Lengths(limit=100), SETTINGS) is None


class TestGrid:
    GRID = (8, 16, 32)

    def steps(self, *outcomes: bool) -> NextProbe | None:
        verdicts = [
            Verdict(
                probe_id=str(number),
                search_id="s",
                number=number,
                outcome="lossless" if yes else "lossy",
                length=length,
                proven_length=length if yes else 0,
                failed_length=None if yes else length,
            )
            for number, (yes, length) in enumerate(zip(outcomes, self.GRID, strict=False))
        ]
        return next_probe(fold(verdicts), Lengths(limit=32, grid=self.GRID), SearchSettings(retries=0))

    @pytest.mark.parametrize("outcomes", [(), (True,), (False,), (False, False), (True, False)])
    def test_each_length_is_asked_once_cold_whatever_came_out_before(self, outcomes):
        step = self.steps(*outcomes)
        assert step is not None
        length = self.GRID[len(outcomes)]
        assert (step.length, step.limit, step.start) == (length, length, COLD)

    @pytest.mark.parametrize("outcomes", [(False, True, False), (True, True, True), (False, False, False)])
    def test_it_is_done_when_all_were_asked(self, outcomes):
        assert self.steps(*outcomes) is None

    def test_the_longest_length_that_was_lossless_counts_also_above_one_that_was_not(self):
        verdicts = [
            Verdict(
                probe_id=str(number),
                search_id="s",
                number=number,
                outcome="lossless",
                length=length,
                proven_length=length,
            )
            for number, length in ((0, 8), (1, 32))
        ]
        assert fold(verdicts).proven == 32


def test_with_a_budget_starts_continue_until_it_is_spent():
    settings = SearchSettings(retries=0, max_trained_tokens=1000)
    begun = replace(bracket(proven=12, stalls=3, num_answered=3), trained_tokens=900)
    step = next_probe(begun, Lengths(limit=100), settings)
    assert step is not None
    assert step.max_trained_tokens == 100
    spent = replace(begun, trained_tokens=1003)
    assert next_probe(spent, Lengths(limit=100), settings) is None
    assert status_of(spent, Lengths(limit=100), settings) == "measured"


def test_without_a_budget_a_probe_has_no_limit_of_tokens():
    step = next_probe(bracket(), Lengths(limit=100), SETTINGS)
    assert step is not None
    assert step.max_trained_tokens is None


def test_on_the_sphere_a_later_cold_start_begins_as_the_first():
    settings = SearchSettings(retries=2, first_length=4, cold_share=None)
    step = next_probe(bracket(proven=30, stalls=2, num_answered=2), Lengths(limit=100), settings)
    assert step is not None
    assert (step.length, step.start) == (4, COLD)
    step = next_probe(bracket(proven=2, stalls=2, num_answered=2), Lengths(limit=3), settings)
    assert step is not None
    assert step.length == 3
