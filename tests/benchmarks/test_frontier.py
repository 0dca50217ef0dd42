"""What the frontier draws: of each text its longest row, certified and claimed, as far as it is known."""

from typing import Any

from frontier import curve, curves_of, furthest


def row(**changes: Any) -> dict[str, Any]:
    """A text that claimed 3 tokens by step 120, of which 2 came out of the memory."""
    plain = {
        "source_tokens": "[1]",
        "budget": 500,
        "steps": 150,
        "trained_tokens": 500,
        "exact_prefix": 2,
        "certified_steps": [50, 100],
        "certified_trained_tokens": [90, 200],
        "certified_lengths": [1, 2],
        "steps_by_length": [10, 60, 120],
        "trained_tokens_by_length": [10, 100, 300],
    }
    return {**plain, **changes}


def test_of_each_text_the_row_with_the_most_trained_tokens_counts():
    rows = [row(), row(trained_tokens=900, budget=900), row(source_tokens="[2]")]
    assert [one["trained_tokens"] for one in furthest(rows)] == [900, 500]


def test_a_text_that_ended_by_itself_is_known_beyond_its_end_and_one_that_spent_its_budget_is_not():
    assert not curve(row(), "steps", "reached").is_censored(150)
    assert curve(row(), "steps", "reached").is_censored(151)
    assert not curve(row(trained_tokens=400), "steps", "reached").is_censored(10_000)
    assert not curve(row(budget=None), "trained_tokens", "reached").is_censored(10_000)


def test_claims_are_drawn_apart_where_fewer_came_out():
    assert [curve(row(), "steps", "reached").at(at) for at in (9, 60, 120)] == [0, 2, 3]
    rows = [row(exact_prefix=0, certified_lengths=[0, 0], budget=None)]
    certified, claims = curves_of(rows, "#000000", "rival, 1 text")[1]
    assert certified.y == (0, 0, 0, 0, 0, 0)
    assert claims.y == (1, 2, 3, 3, 3, 3)
    assert claims.name == "rival, claimed"
    (alone,) = curves_of([row(exact_prefix=3, budget=None)], "#000000", "rival, 1 text")[1]
    assert alone.y == (1, 2, 3, 3, 3, 3)
    proven, _ = curves_of(rows, "#000000", "rival, 1 text")[2]
    assert set(proven.y or ()) == {0}
