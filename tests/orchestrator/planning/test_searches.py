"""From values that were read to the plan: no model, no file and no Ray is needed for it."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import BadInput
from orchestrator.planning.inputs import Inputs, ReadModel
from orchestrator.planning.plan import PlannedModel
from orchestrator.planning.searches import lay_out, longest_length
from orchestrator.spec.sweep import Sweep
from tasks.facts import ModelFacts
from tasks.registry import TASKS
from tasks.values import Model, TaskError, Text

FACTS = ModelFacts(
    fingerprint="f", revision="r", vocabulary=0x110000, context=None, embedding_width=4, num_parameters=1
)


def sweep_of(**changes: Any) -> Sweep:
    # What was read is given beside the sweep: its own entries are not looked at.
    texts = [{"source": "random_tokens", "samples": 1}]
    return Sweep.model_validate({"name": "pure", "task": "toy", "models": ["a/b"], "texts": texts, **changes})


def model_of(sweep: Sweep, *texts: str, facts: ModelFacts = FACTS, name: str = "b") -> ReadModel:
    return ReadModel(
        planned=PlannedModel(name=name, model=Model(name=f"a/{name}"), facts=facts, recipe=sweep.recipe),
        codec=TASKS["toy"].codec(Model(name="a/b")),
        texts=tuple(Text(text=text, source=f"given:{number}") for number, text in enumerate(texts)),
    )


def inputs_of(*texts: str, **changes: Any) -> Inputs:
    sweep = sweep_of(**changes)
    return Inputs(sweep=sweep, models=[model_of(sweep, *texts)], text_commits={})


def test_every_text_with_every_k_and_seed_in_that_order():
    plan = lay_out(inputs_of("one text", "another", num_vectors=[1, 2], seeds=[0, 7]))
    assert [(search.num_vectors, search.seed) for search in plan.searches] == [(1, 0), (1, 7), (2, 0), (2, 7)] * 2
    assert [plan.samples[search.model, search.sample_id].text for search in plan.searches] == (
        ["one text"] * 4 + ["another"] * 4
    )


def test_an_identity_is_the_same_from_version_to_version():
    """Runs of earlier versions are resumed by these; whoever changes them loses every search of every run."""
    (search,) = lay_out(inputs_of("one text")).searches
    (drawn,) = lay_out(inputs_of("one text", search={"policy": "grid", "lengths": {"draws": 3, "longest": 8}})).searches
    assert (search.sample_id, search.search_id) == ("e662ec80b89d0d06", "96bb35f0235d64ee")
    assert (drawn.search_id, drawn.grid) == ("c520741fae708ff1", (1, 3, 7))


def test_a_margin_is_part_of_the_identity():
    margins: list[float | None] = [None, 0.5, 1.0]
    asked = [{"criterion": "exact" if margin is None else {"margin": margin}} for margin in margins]
    plans = [lay_out(inputs_of("one text", **changes)) for changes in asked]
    assert len({plan.searches[0].search_id for plan in plans}) == 3
    assert [plan.searches_table()["criterion"][0].as_py() for plan in plans] == ["exact", "margin>=0.5", "margin>=1"]


class TestContext:
    def test_the_text_after_it_is_asked_for(self):
        plan = lay_out(inputs_of("before and after", "too short", context=10))
        (sample,) = plan.samples.values()
        assert (sample.context_text, sample.text) == ("before and", " after")
        assert (sample.context, sample.tokens) == tuple(tuple(map(ord, part)) for part in ("before and", " after"))
        assert sample.token_ends == (1, 2, 3, 4, 5, 6)
        assert [(search.limit, search.limit_status) for search in plan.searches] == [(6, "at_text_end")]
        assert plan.notes == ("given:1: 9 tokens; with this context, wanted at least 11; left out.",)
        assert plan.searches_table().select(["context", "repeats_context"]).to_pylist() == [
            {"context": 10, "repeats_context": False}
        ]

    def test_the_text_itself_may_stand_there(self):
        plan = lay_out(inputs_of("again and again", context={"repeat": 5}))
        (sample,) = plan.samples.values()
        assert (sample.context_text, sample.text) == ("again", "again")
        assert [(search.limit, search.limit_status) for search in plan.searches] == [(5, "at_text_end")]

    def test_a_limit_counts_what_is_asked_for(self):
        for context in (4, {"repeat": 8}):
            plan = lay_out(inputs_of("0123456789", context=context, search={"max_length": 3}))
            (sample,) = plan.samples.values()
            assert len(sample.context) == (4 if context == 4 else 8)
            assert [(search.limit, search.limit_status) for search in plan.searches] == [(3, "at_max_length")]

    def test_it_is_part_of_the_identity(self):
        asked: list[dict[str, Any]] = [{}, {"context": 3}, {"context": {"repeat": 3}}]
        plans = [lay_out(inputs_of("abcdef", **changes)) for changes in asked]
        assert len({plan.searches[0].search_id for plan in plans}) == 3
        assert len({sample_id for plan in plans for _, sample_id in plan.samples}) == 3


def test_what_reading_said_comes_first_and_nothing_twice():
    inputs = inputs_of("one text", "", "one text")
    inputs = replace(inputs, notes=("read.", "read."), text_commits={"texts.0": "abc"})
    plan = lay_out(inputs)
    assert plan.notes == (
        "read.",
        "given:1: no tokens in this text; left out.",
        "given:0: the same tokens in given:2; searched once.",
    )
    assert plan.text_commits == {"texts.0": "abc"}


def test_a_grid_asks_for_no_more_than_the_text_has():
    plan = lay_out(inputs_of("0123456789", "012", search={"policy": "grid", "lengths": [4, 8, 16]}))
    assert [(search.grid, search.limit, search.limit_status) for search in plan.searches] == [
        ((4, 8), 8, "at_max_length")
    ]
    assert plan.notes == ("given:1: 3 tokens, shorter than every length of the grid; left out.",)


def test_a_tokenizer_of_another_model_is_named_for_each_text():
    sweep = sweep_of()
    inputs = Inputs(
        sweep=sweep, models=[model_of(sweep, "abc", "xyz", facts=replace(FACTS, vocabulary=100))], text_commits={}
    )
    with pytest.raises(BadInput) as error:
        lay_out(inputs)
    (line,) = error.value.problems
    assert line.startswith("b: its tokenizer gives token 122 for given:1, but its vocabulary has 100.")


def test_nothing_to_search_is_refused_with_what_was_said():
    with pytest.raises(BadInput) as error:
        lay_out(inputs_of(""))
    assert [line.split(":")[0] for line in error.value.problems] == ["texts", "given"]


class TestLongestLength:
    @pytest.mark.parametrize(
        ("fits", "max_length", "longest", "problem"),
        [
            (None, None, None, ""),
            (None, 5, 5, ""),
            (9, None, 9, ""),
            (9, 5, 5, ""),
            (5, 9, 5, "search.max_length: 9 tokens do not fit into the context of b, which holds 5 beside"),
            (0, None, None, "num_vectors: 1 vector leaves no room in the context of b."),
        ],
    )
    def test_the_least_of_context_and_max_length(self, monkeypatch, fits, max_length, longest, problem):
        monkeypatch.setattr(TASKS["toy"], "longest_text", lambda facts, **_: fits)
        sweep = sweep_of(search={"max_length": max_length})
        found = longest_length(sweep, model_of(sweep).planned, 1)
        assert found.value == longest
        assert len(found.problems) == bool(problem)
        assert all(line.startswith(problem) for line in found.problems)

    def test_a_question_that_cannot_be_put_is_a_problem(self, monkeypatch):
        def refuse(facts: ModelFacts, **_: Any) -> int:
            raise TaskError("no BOS.")

        monkeypatch.setattr(TASKS["toy"], "longest_text", refuse)
        assert longest_length(sweep_of(), model_of(sweep_of()).planned, 1).problems == ("b: no BOS.",)
