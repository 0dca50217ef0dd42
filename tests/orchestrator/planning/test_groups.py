"""Samples of several texts: which texts stand together, how far they reach, and what a run does without its texts."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.planning.searches import lay_out
from orchestrator.store.passages import given_back, pieces
from tests.orchestrator.planning.test_searches import inputs_of

SHARED: dict[str, Any] = {"task": "one_step", "share": {"second": 2}, "num_vectors": [3], "recipe": "default"}


def shared(*texts: str, **changes: Any):
    return lay_out(inputs_of(*texts, **(SHARED | changes)))


def test_texts_take_turns_as_far_as_the_shortest_reaches():
    plan = shared("abcdef", "uvw", "1234", "56789")
    first, second = plan.samples.values()
    assert [chr(token) for token in first.tokens] == list("aubvcw")
    assert (first.text, first.token_ends, first.num_texts) == ("abcuvw", (1, 4, 2, 5, 3, 6), 2)
    assert (first.source, first.other_sources) == ("given:0 and 1 more", ("given:1",))
    assert second.text == "12345678"
    assert [(search.limit, search.limit_status) for search in plan.searches] == [
        (6, "at_text_end"),
        (8, "at_text_end"),
    ]
    assert plan.searches_table()["num_texts"].to_pylist() == [2, 2]
    assert plan.samples_table()["num_texts"].to_pylist() == [2, 2]


def test_a_limit_counts_the_tokens_of_all_and_may_end_within_a_turn():
    (sample,) = shared("abcdef", "uvwxyz", search={"max_length": 5}).samples.values()
    assert [chr(token) for token in sample.tokens] == list("aubvc")
    assert sample.text == "abcuv"
    assert pieces(sample.text, sample.token_ends, 2, num_tokens=5) == list("aubvc")
    (search,) = shared("abcdef", "uvwxyz", search={"max_length": 5}).searches
    assert (search.limit, search.limit_status) == (5, "at_max_length")


def test_texts_beyond_whole_groups_are_left_out_with_a_note():
    plan = shared("abc", "def", "ghi")
    assert len(plan.samples) == 1
    assert any(note.endswith("1 text beyond groups of 2; left out.") for note in plan.notes)


def test_which_texts_stand_together_decides_the_search():
    one, other = shared("abc", "def"), shared("def", "abc")
    assert one.searches[0].search_id != other.searches[0].search_id


@pytest.mark.parametrize("left", [("abc", "ghi", "jkl"), ("abc", "CHANGED", "ghi", "jkl"), ()])
def test_a_run_keeps_its_groups_if_texts_are_lost_or_changed(left: tuple[str, ...]):
    begun = shared("abc", "def", "ghi", "jkl")
    held = {"model": list(begun.samples.values())}
    inputs = inputs_of(*left, **SHARED)
    resumed = lay_out(replace(inputs, held={model.planned.name: held["model"] for model in inputs.models}))
    assert [search.search_id for search in resumed.searches] == [search.search_id for search in begun.searches]
    assert any("the run's own copies are used" in note for note in resumed.notes)


def test_groups_of_another_tokenizer_are_none_of_this_model():
    begun = shared("abc", "def")
    held = [replace(sample, sample_id="another") for sample in begun.samples.values()]
    inputs = inputs_of("abc", "xyz", **SHARED)
    resumed = lay_out(replace(inputs, held={model.planned.name: held for model in inputs.models}))
    assert [sample.text for sample in resumed.samples.values()] == ["abcxyz"]


def test_more_texts_are_more_groups():
    begun = shared("abc", "def")
    inputs = inputs_of("abc", "def", "ghi", "jkl", **SHARED)
    held = {model.planned.name: list(begun.samples.values()) for model in inputs.models}
    extended = lay_out(replace(inputs, held=held))
    assert extended.searches[0].search_id == begun.searches[0].search_id
    assert (len(extended.searches), extended.notes) == (2, ())


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [(0, ""), (1, "ab"), (2, "ab\n\nx"), (3, "abcd\n\nx"), (4, "abcd\n\nxyz"), (9, "abcd\n\nxyz")],
)
def test_what_is_given_back_is_shown_text_by_text(num_tokens: int, expected: str):
    assert given_back("abcdxyz", (2, 5, 4, 7), 2, num_tokens=num_tokens) == expected
