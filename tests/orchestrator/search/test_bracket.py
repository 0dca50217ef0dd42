from hypothesis import given
from hypothesis import strategies as st

from orchestrator.search.bracket import Bracket, Verdict, fold


def verdict(number: int, *, proven: int, failed: int | None, length: int = 1, attempt: int = 0) -> Verdict:
    outcome = "lossless" if proven >= length else "lossy"
    return Verdict(
        probe_id=f"probe {number}",
        search_id="search",
        number=number,
        attempt=attempt,
        outcome=outcome,
        length=length,
        proven_length=proven,
        failed_length=failed,
    )


def machine_failure(number: int, attempt: int) -> Verdict:
    return Verdict(
        probe_id=f"probe {number}",
        search_id="search",
        number=number,
        attempt=attempt,
        outcome="failed",
        length=5,
        reason="node lost",
    )


verdicts = st.lists(
    st.one_of(
        st.builds(
            lambda number, proven, gap: verdict(number, proven=proven, failed=proven + gap if gap else None),
            st.integers(0, 6),
            st.integers(0, 30),
            st.integers(0, 4),
        ),
        st.builds(machine_failure, st.integers(0, 6), st.integers(0, 2)),
    ),
    # One verdict a number: a probe is never answered twice.
    unique_by=lambda v: (v.number, v.attempt if v.outcome == "failed" else None),
)


def test_the_longest_proof_and_every_stall_are_kept():
    bracket = fold([verdict(0, proven=12, failed=14), verdict(1, proven=0, failed=13, length=13)])
    assert bracket.proven == 12
    assert bracket.proven_by == "probe 0"
    assert dict(bracket.failures) == {14: 1, 13: 1}
    assert bracket.smallest_failed == 13
    assert bracket.stalls == 2


def test_a_length_that_failed_and_was_proven_later_bounds_nothing():
    bracket = fold([verdict(0, proven=12, failed=13), verdict(1, proven=20, failed=22)])
    assert bracket.failures[13] == 1
    assert bracket.smallest_failed == 22


@given(verdicts, st.randoms())
def test_order_of_arrival_does_not_matter(recorded: list[Verdict], random):
    shuffled = list(recorded)
    random.shuffle(shuffled)
    assert fold(shuffled) == fold(recorded)


@given(verdicts)
def test_repeated_verdicts_change_nothing(recorded: list[Verdict]):
    assert fold([*recorded, *recorded]) == fold(recorded)


@given(verdicts)
def test_failures_of_the_machine_move_no_bracket(recorded: list[Verdict]):
    without_failures = fold([v for v in recorded if v.outcome != "failed"])
    everything = fold(recorded)
    for name in ("proven", "proven_by", "failures", "num_answered", "stalls"):
        assert getattr(everything, name) == getattr(without_failures, name)


@given(verdicts)
def test_more_verdicts_never_shorten_what_is_proven(recorded: list[Verdict]):
    proven = [fold(recorded[:n]).proven for n in range(len(recorded) + 1)]
    assert proven == sorted(proven)


def test_attempts_are_counted_until_the_probe_is_answered():
    failures = [machine_failure(0, 0), machine_failure(0, 1)]
    assert dict(fold(failures).attempts) == {0: 2}
    assert fold(failures).last_reason == "node lost"
    assert dict(fold([*failures, verdict(0, proven=9, failed=10, attempt=2)]).attempts) == {}


def test_nothing_is_known_at_first():
    assert fold([]) == Bracket()
