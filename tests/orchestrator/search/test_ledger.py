import random

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger, Order, Search
from orchestrator.search.policy import SearchSettings

SETTINGS = SearchSettings(retries=1)


def make_search(number: int, limit: int = 40) -> Search:
    return Search(
        search_id=f"search {number}",
        model="model",
        sample_id=f"sample {number}",
        num_vectors=1,
        seed=0,
        limit=limit,
        limit_status="at_text_end",
    )


def answer(order: Order, capacity: int) -> Verdict:
    """The verdict of a noiseless probe on a text with this capacity."""
    reached = min(capacity, order.search.limit)
    lossless = reached >= order.asked.length
    return Verdict(
        probe_id=order.probe_id,
        search_id=order.search.search_id,
        number=order.asked.number,
        attempt=order.asked.attempt,
        outcome="lossless" if lossless else "lossy",
        length=order.asked.length,
        proven_length=reached if lossless else 0,
        failed_length=None if lossless and reached == order.search.limit else max(order.asked.length, reached + 1),
    )


def run_to_the_end(ledger: Ledger, capacities: dict[str, int], seed: int) -> list[Verdict]:
    """Answer in a random order until nothing is open."""
    chance = random.Random(seed)
    in_flight: list[Order] = []
    verdicts: list[Verdict] = []
    while ledger.num_open:
        in_flight += ledger.next_orders("model", chance.randint(1, 4))
        order = in_flight.pop(chance.randrange(len(in_flight)))
        verdicts.append(answer(order, capacities[order.search.search_id]))
        ledger.record(verdicts[-1])
    return verdicts


capacities = st.lists(st.integers(0, 60), min_size=1, max_size=6)


@given(capacities, st.integers(0, 5))
@settings(max_examples=50)
def test_every_search_ends_at_its_capacity_whatever_the_order(wanted: list[int], seed: int):
    searches = [make_search(number) for number in range(len(wanted))]
    known = {search.search_id: capacity for search, capacity in zip(searches, wanted, strict=True)}
    ledger = Ledger(searches, SETTINGS)
    run_to_the_end(ledger, known, seed)
    for search in searches:
        capacity = known[search.search_id]
        assert ledger.bracket(search.search_id).proven == min(capacity, search.limit)
        assert ledger.status(search.search_id) == ("at_text_end" if capacity >= search.limit else "measured")


@given(capacities, st.integers(0, 5))
@settings(max_examples=50)
def test_the_rows_on_disk_are_the_whole_state(wanted: list[int], seed: int):
    searches = [make_search(number) for number in range(len(wanted))]
    known = {search.search_id: capacity for search, capacity in zip(searches, wanted, strict=True)}
    ledger = Ledger(searches, SETTINGS)
    verdicts = run_to_the_end(ledger, known, seed)
    folded = Ledger(searches, SETTINGS, reversed([*verdicts, *verdicts]))
    assert folded.num_open == 0
    for search in searches:
        assert folded.status(search.search_id) == ledger.status(search.search_id)
    # A finished search stays finished: nothing is asked again.
    assert folded.next_orders("model", 10) == []


def test_no_search_has_two_probes_in_flight():
    ledger = Ledger([make_search(0), make_search(1)], SETTINGS)
    assert len(ledger.next_orders("model", 10)) == 2
    assert ledger.next_orders("model", 10) == []


def test_a_probe_that_was_lost_is_asked_again_under_the_same_name():
    ledger = Ledger([make_search(0)], SETTINGS)
    (order,) = ledger.next_orders("model", 1)
    ledger.give_back([order.search.search_id])
    assert ledger.next_orders("model", 1) == [order]


def test_a_failure_of_the_machine_raises_the_attempt_and_nothing_else():
    ledger = Ledger([make_search(0)], SETTINGS)
    (order,) = ledger.next_orders("model", 1)
    ledger.record(
        Verdict(
            probe_id=order.probe_id,
            search_id=order.search.search_id,
            number=0,
            attempt=0,
            outcome="failed",
            length=order.asked.length,
            reason="node lost",
        )
    )
    (again,) = ledger.next_orders("model", 1)
    assert (again.probe_id, again.asked.attempt, again.asked.length) == (order.probe_id, 1, order.asked.length)


def test_rows_of_searches_that_are_not_asked_for_are_not_looked_at():
    other = Ledger([make_search(7)], SETTINGS)
    (order,) = other.next_orders("model", 1)
    ledger = Ledger([make_search(0)], SETTINGS, [answer(order, 10)])
    assert ledger.num_open == 1
