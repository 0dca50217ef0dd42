"""The plain binary search: doubling to the first length that fails, then halving what lies between."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.search.bracket import Verdict, fold
from orchestrator.search.policy import Lengths, SearchSettings, next_probe, status_of
from tasks.values import COLD

LIMIT = 100


def search(capacity: int, *, retries: int = 0, first_length: int = 4, prefix: int = 0) -> tuple[list[int], int, str]:
    """Lengths asked for, what is proven, and the status, where every start proves up to `capacity` tokens.

    A start that fails still proves `prefix` tokens, as far as they are within the capacity.
    """
    settings = SearchSettings(policy="bisect", retries=retries, first_length=first_length)
    verdicts: list[Verdict] = []
    while (step := next_probe(fold(verdicts), Lengths(limit=LIMIT), settings)) is not None:
        assert (step.start, step.limit, step.number) == (COLD, step.length, len(verdicts))
        lossless = step.length <= capacity
        verdicts.append(
            Verdict(
                probe_id=f"{step.number}",
                search_id="search",
                number=step.number,
                outcome="lossless" if lossless else "lossy",
                length=step.length,
                proven_length=step.length if lossless else min(prefix, capacity),
                failed_length=None if lossless else step.length,
            )
        )
    found = fold(verdicts)
    status = status_of(found, Lengths(limit=LIMIT), settings)
    return [verdict.length for verdict in verdicts], found.proven, status


def test_it_doubles_then_halves():
    assert search(21) == ([4, 8, 16, 32, 24, 20, 22, 21], 21, "measured")


def test_a_length_fails_after_as_many_starts_as_there_are_retries():
    assert search(5, retries=1) == ([4, 8, 8, 6, 6, 5], 5, "measured")


def test_a_first_length_that_fails_is_halved_down_to_one():
    assert search(0) == ([4, 2, 1], 0, "measured")


def test_the_limit_is_asked_for_and_reached():
    assert search(500) == ([4, 8, 16, 32, 64, 100], 100, "at_text_end")


def test_a_shorter_proof_of_a_failed_start_counts():
    lengths, proven, _ = search(11, prefix=11)
    assert (lengths, proven) == ([4, 8, 16, 13, 12], 11)


@given(capacity=st.integers(0, 150), retries=st.integers(0, 3), first_length=st.integers(1, 20))
def test_whatever_the_capacity_it_is_found(capacity, retries, first_length):
    lengths, proven, _ = search(capacity, retries=retries, first_length=first_length)
    assert proven == min(capacity, LIMIT)
    assert len(lengths) <= (retries + 1) * 16
