"""What the frontier draws: of each text its longest row, certified and claimed, as far as it is known."""

from typing import Any

from frontier import curves_of, furthest, is_known
from measure import claimed


def row(**changes: Any) -> dict[str, Any]:
    """A text that claimed 3 tokens by step 120, of which 2 came out of the memory."""
    plain = {
        "source_tokens": "[1]",
        "budget": 500,
        "steps": 150,
        "trained_tokens": 500,
        "exact_prefix": 2,
        "steps_by_length": [10, 60, 120],
        "trained_tokens_by_length": [10, 100, 300],
    }
    return {**plain, **changes}


def test_of_each_text_the_row_with_the_most_trained_tokens_counts():
    rows = [row(), row(trained_tokens=900, budget=900), row(source_tokens="[2]")]
    assert [one["trained_tokens"] for one in furthest(rows)] == [900, 500]


def test_a_text_that_ended_by_itself_is_known_beyond_its_end_and_one_that_spent_its_budget_is_not():
    assert is_known(row(), "steps", 150)
    assert not is_known(row(), "steps", 151)
    assert is_known(row(trained_tokens=400), "steps", 10_000)
    assert is_known(row(budget=None), "trained_tokens", 10_000)


def test_claims_are_drawn_apart_where_fewer_came_out():
    assert [claimed(row(), "steps", at) for at in (9, 60, 120)] == [0, 2, 3]
    rows = [row(exact_prefix=0, budget=None)]
    certified, claims = curves_of(rows, "#000000", "rival, 1 text")[1]
    assert certified.y == (0, 0, 0, 0, 0, 0)
    assert claims.y == (1, 2, 3, 3, 3, 3)
    assert claims.name == "rival, claimed"
    (alone,) = curves_of([row(exact_prefix=3, budget=None)], "#000000", "rival, 1 text")[1]
    assert alone.y == (1, 2, 3, 3, 3, 3)
