"""Which engines leave and which come: cases worked out by hand, and what holds for any."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.turnover import HeldEngine, lacking, leaving


def a(in_flight: int = 0, *, leaves: bool = False) -> HeldEngine:
    return HeldEngine(model="a", in_flight=in_flight, leaves=leaves)


B = HeldEngine(model="b", in_flight=3)


@pytest.mark.parametrize(
    ("held", "wanted", "leaves"),
    [
        ([], {"a": 2}, []),
        ([a(), B], {"a": 1, "b": 1}, [False, False]),
        ([a(1), a(9), a(4)], {"a": 1}, [True, False, True]),
        ([a(9, leaves=True), a(1)], {"a": 1}, [True, False]),
        # One that leaves is taken back before a new one is made.
        ([a(9, leaves=True), a(1)], {"a": 2}, [False, False]),
        ([a(5), B], {"a": 1}, [False, True]),
    ],
)
def test_those_beyond_leave_the_least_busy_first(held, wanted, leaves):
    assert leaving(held, wanted) == leaves


@pytest.mark.parametrize(
    ("held", "wanted", "models"),
    [
        ([], {"a": 2, "b": 1}, ["a", "a", "b"]),
        ([a(), B], {"a": 1, "b": 1}, []),
        ([a(), a(), a()], {"a": 1}, []),
        # The place of one that leaves is free only once it has no probes left.
        ([a(4, leaves=True), B], {"b": 2}, []),
        ([a(4, leaves=True), B], {"b": 3}, ["b"]),
    ],
)
def test_new_ones_come_where_places_are(held, wanted, models):
    assert lacking(held, wanted) == models


ENGINES = st.lists(
    st.builds(HeldEngine, model=st.sampled_from("abc"), in_flight=st.integers(0, 9), leaves=st.booleans()), max_size=12
)


@given(held=ENGINES, wanted=st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)))
def test_what_stays_and_what_comes_is_at_most_what_is_wanted(held, wanted):
    leaves = leaving(held, wanted)
    stay = Counter(engine.model for engine, goes in zip(held, leaves, strict=True) if not goes)
    assert all(stay[model] == min(wanted.get(model, 0), sum(e.model == model for e in held)) for model in "abc")
    after = [HeldEngine(model=e.model, leaves=goes) for e, goes in zip(held, leaves, strict=True)]
    come = Counter(lacking(after, wanted))
    assert all(stay[model] + come[model] <= wanted.get(model, 0) for model in "abc")
    assert len(held) + come.total() <= max(len(held), sum(wanted.values()))
