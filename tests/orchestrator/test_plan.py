"""From a sweep to its searches: limits, duplicates, and what decides the identity of a sample and of a search.

Long, as each field that decides an identity has its test here.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.spec.sweep import Sweep
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import SAMPLES_FILE, read_samples, write_table
from orchestrator.store.schema import SAMPLES, SEARCHES
from tasks.contract import Reader
from tasks.facts import ModelFacts
from tasks.registry import TASKS
from tasks.texts import TextEntry
from tasks.values import Model, Question, Text

ONE, TWO, THREE = "The first text.", "The second text, longer.", "A third."


class GivenTexts(TextEntry, frozen=True):
    """Texts as a test gives them."""

    source: str = "given"
    samples: int | None = None
    texts: tuple[str, ...]

    def read(self, reader: Reader | None = None) -> list[Text]:
        return [Text(text=text, source=f"given:{number}") for number, text in enumerate(self.texts)]


def toy_sweep(*texts: str, **changes: Any) -> Sweep:
    entry = GivenTexts(texts=texts or (ONE, TWO, THREE))
    return Sweep.model_validate({"name": "toy", "task": "toy", "models": ["toy/model"], "texts": [entry], **changes})


def plan_of(*texts: str, **changes: Any) -> Plan:
    return make_plan(toy_sweep(*texts, **changes))


def sample_ids(plan: Plan) -> dict[str, str]:
    """sample_id of each text."""
    return {sample.text: sample.sample_id for sample in plan.samples.values()}


def search_ids(plan: Plan) -> set[str]:
    return {search.search_id for search in plan.searches}


@pytest.fixture
def context_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give the toy's models a context; a memory takes a position for each of its vectors."""

    def set_context(context: int) -> None:
        def longest_text(facts: ModelFacts, *, num_vectors: int, question: Question) -> int:
            return context - num_vectors

        monkeypatch.setattr(TASKS["toy"], "longest_text", longest_text)

    return set_context


class TestSearches:
    def test_models_by_texts_by_vectors_by_seeds(self):
        plan = plan_of(models=["toy/a", "toy/b"], num_vectors=[1, 2], seeds=[0, 1, 2])
        assert len(plan.searches) == len(search_ids(plan)) == 2 * 3 * 2 * 3
        assert {(search.model, search.num_vectors, search.seed) for search in plan.searches} == {
            (model, k, seed) for model in ("toy/a", "toy/b") for k in (1, 2) for seed in (0, 1, 2)
        }

    def test_the_table_shows_what_is_planned(self):
        plan = plan_of(ONE, num_vectors=[2])
        (row,) = plan.searches_table().to_pylist()
        (search,) = plan.searches
        assert plan.searches_table().schema == SEARCHES
        assert (row["search_id"], row["model"], row["num_vectors"]) == (search.search_id, "toy/model", 2)
        assert (row["source"], row["criterion"], row["status"]) == ("given:0", "exact", "open")
        assert (row["limit"], row["limit_status"], row["capacity_tokens"]) == (len(ONE), "at_text_end", None)

    def test_every_row_of_a_search_names_its_text_and_model(self):
        plan = plan_of(ONE)
        columns = plan.columns(plan.searches[0])
        assert (columns.model, columns.model_revision, columns.source) == ("toy/model", "toy", "given:0")
        assert columns.text_sha256 == hashlib.sha256(ONE.encode()).hexdigest()


class TestLimits:
    def test_without_a_limit_a_search_goes_to_the_end_of_its_text(self):
        assert [(search.limit, search.limit_status) for search in plan_of(ONE, TWO).searches] == [
            (len(ONE), "at_text_end"),
            (len(TWO), "at_text_end"),
        ]

    def test_max_length_bounds_longer_texts_only(self):
        plan = plan_of(ONE, TWO, THREE, search={"max_length": len(ONE)})
        assert [(search.limit, search.limit_status) for search in plan.searches] == [
            (len(ONE), "at_text_end"),
            (len(ONE), "at_max_length"),
            (len(THREE), "at_text_end"),
        ]

    def test_the_context_bounds_each_number_of_vectors_alike(self, context_of):
        context_of(10)
        plan = plan_of(TWO, num_vectors=[1, 4])
        assert [(search.limit, search.limit_status) for search in plan.searches] == [
            (9, "at_model_limit"),
            (6, "at_model_limit"),
        ]
        (sample,) = plan.samples.values()
        assert sample.text == TWO[:9]

    def test_max_length_beyond_the_context_is_refused_for_each_number_of_vectors(self, context_of):
        context_of(10)
        with pytest.raises(BadInput) as error:
            plan_of(TWO, num_vectors=[1, 4, 10], search={"max_length": 7})
        assert [line.split(",")[0] for line in error.value.problems] == [
            "search.max_length: 7 tokens do not fit into the context of toy/model",
            "num_vectors: 10 vectors leave no room in the context of toy/model.",
        ]
        assert "holds 6 beside num_vectors: 4. Ask for at most 6" in error.value.problems[0]


class TestSamples:
    def test_the_text_is_kept_up_to_the_longest_length_searched(self):
        (sample,) = plan_of(TWO, search={"max_length": 5}).samples.values()
        assert (sample.text, sample.tokens, sample.token_ends) == (TWO[:5], tuple(map(ord, TWO[:5])), (1, 2, 3, 4, 5))
        assert sample.cut
        assert sample.text_sha256 == hashlib.sha256(TWO.encode()).hexdigest()

    def test_equal_texts_are_searched_once_and_noted_once(self):
        plan = plan_of(ONE, TWO, ONE, ONE, num_vectors=[1, 2])
        assert len(plan.searches) == 2 * 2
        (first, _) = plan.samples.values()
        assert (first.source, first.other_sources) == ("given:0", ("given:2", "given:3"))
        assert plan.notes == ("given:0: the same tokens in given:2, given:3; searched once.",)

    def test_two_models_share_one_note(self):
        assert len(plan_of(ONE, ONE, models=["toy/a", "toy/b"]).notes) == 1

    def test_of_texts_that_begin_alike_the_first_names_the_source(self):
        plan = plan_of("the same, then this", "the same, then that", search={"max_length": 8})
        (sample,) = plan.samples.values()
        assert (sample.source, sample.other_sources) == ("given:0", ("given:1",))
        assert sample.text_sha256 == hashlib.sha256(b"the same, then this").hexdigest()

    def test_an_id_depends_on_no_order_and_no_neighbour(self):
        together = sample_ids(plan_of(ONE, TWO, THREE))
        assert sample_ids(plan_of(THREE, ONE, TWO)) == together
        assert sample_ids(plan_of(ONE)) == {ONE: together[ONE]}
        assert len(set(together.values())) == 3

    def test_so_do_search_ids(self):
        assert search_ids(plan_of(THREE, ONE, TWO)) == search_ids(plan_of(ONE, TWO, THREE))
        assert search_ids(plan_of(ONE)) < search_ids(plan_of(ONE, TWO, THREE))

    def test_an_id_depends_on_the_length_used(self):
        (whole,), (cut,) = plan_of(ONE).samples.values(), plan_of(ONE, search={"max_length": 5}).samples.values()
        assert whole.sample_id != cut.sample_id

    def test_texts_without_tokens_are_left_out_with_a_note(self):
        plan = plan_of("", ONE)
        assert [sample.source for sample in plan.samples.values()] == ["given:1"]
        assert plan.notes == ("given:0: no tokens in this text; left out.",)

    def test_nothing_but_empty_texts(self):
        with pytest.raises(BadInput, match="every text is empty"):
            plan_of("", "")

    def test_the_table_comes_back_from_disk(self, tmp_path: Path):
        plan = plan_of(ONE, "größer, 大きい, 🙂", ONE)
        files = LocalFiles(tmp_path)
        write_table(files, SAMPLES_FILE, plan.samples_table())
        table = read_samples(files)
        assert table.schema == SAMPLES
        assert {(row["model"], row["sample_id"]): row for row in table.to_pylist()} == {
            key: {
                "sample_id": sample.sample_id,
                "model": "toy/model",
                "source": sample.source,
                "other_sources": list(sample.other_sources),
                "text_sha256": sample.text_sha256,
                "text": sample.text,
                "tokens": list(sample.tokens),
                "token_ends": list(sample.token_ends),
                "num_texts": 1,
                "first_change": None,
                "context": [],
                "context_text": "",
            }
            for key, sample in plan.samples.items()
        }


class TestIdentityOfSearches:
    @pytest.mark.parametrize(
        "changes",
        [
            {"models": ["toy/other"]},
            {"num_vectors": [2]},
            {"seeds": [1]},
            {"criterion": {"teacher_forced": 0.99}},
            {"criterion": {"teacher_forced": 0.99}, "decode_from": "memory+first_token"},
            {"prefix": "bos"},
            {"recipe": {"shortfall": 1}},
            {"search": {"growth": 1.2}},
            {"search": {"retries": 3}},
            {"search": {"max_length": 5}},
        ],
        ids=str,
    )
    def test_what_decides_the_result_makes_another_search(self, changes):
        assert search_ids(plan_of(ONE)).isdisjoint(search_ids(plan_of(ONE, **changes)))

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "other"},
            {
                "engines": {
                    "device": "cpu",
                    "count": 2,
                    "gpus": 0.5,
                    "cpus": 1,
                    "tokens_per_step": 64,
                    "probes_per_trial": 1,
                }
            },
            {"budget": {"minutes": 3}},
            {"engines": {"deterministic": True}},
            {"storage": "memory://elsewhere"},
            {"search": {"max_length": len(ONE)}},  # bounds nothing
            {"recipe": "default"},
        ],
        ids=str,
    )
    def test_what_does_not_decide_it_leaves_the_search_the_same(self, changes):
        assert search_ids(plan_of(ONE)) == search_ids(plan_of(ONE, **changes))


class TestTextSources:
    @pytest.fixture
    def files_entry(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "a.txt").write_text(ONE)
        return {"source": "files", "path": str(tmp_path), "samples": 2}

    def test_fewer_texts_than_asked_for_are_refused_unless_allowed(self, files_entry):
        sweep = toy_sweep(texts=[files_entry])
        with pytest.raises(BadInput, match="2 samples were asked for, the source has 1"):
            make_plan(sweep)
        allowed = make_plan(sweep, allow_fewer=True)
        assert [sample.source for sample in allowed.samples.values()] == ["files:a.txt"]
        assert allowed.notes == ("texts.0: 2 samples were asked for, the source has 1. Continuing with 1.",)

    def test_all_sources_are_read_before_any_problem_is_reported(self, files_entry, tmp_path):
        missing = {"source": "files", "path": str(tmp_path / "none"), "samples": None}
        with pytest.raises(BadInput) as error:
            make_plan(toy_sweep(texts=[files_entry, missing]))
        assert [line.split(":")[0] for line in error.value.problems] == ["texts.0", "texts.1"]


def test_one_model_under_two_names_is_refused(monkeypatch):
    facts = TASKS["toy"].facts(Model(name="toy/model"))
    monkeypatch.setattr(TASKS["toy"], "facts", lambda model: facts)
    with pytest.raises(BadInput, match=r"models\.1: toy/copy has the same weights and dtype as toy/model; remove one"):
        plan_of(ONE, models=["toy/model", "toy/copy"])


def test_models_of_one_name_get_distinct_names(tmp_path: Path):
    for folder in ("one/tiny", "two/tiny"):
        (tmp_path / folder).mkdir(parents=True)
    plan = plan_of(ONE, models=[str(tmp_path / "one" / "tiny"), str(tmp_path / "two" / "tiny")])
    first, second = (model.name for model in plan.models)
    assert first == "tiny"
    assert second.startswith("tiny@")
    assert {search.model for search in plan.searches} == {first, second}


def test_a_folder_called_model_goes_by_the_folder_it_is_in(tmp_path: Path):
    (tmp_path / "quick" / "model").mkdir(parents=True)
    (model,) = plan_of(ONE, models=[str(tmp_path / "quick" / "model")]).models
    assert model.name == "quick"


@pytest.mark.parametrize(("kind", "notes"), [("mamba", 1), ("llama", 0)])
def test_a_recurrent_model_is_noted_as_slow_on_a_cpu(kind: str, notes: int, tmp_path: Path, shipped_model: Path):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 512, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "state_size": 2}
    folder = tmp_path / kind
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    for file in shipped_model.glob("tokenizer*"):
        shutil.copy(file, folder)
    plan = plan_of(ONE, task="cramming", models=[str(folder)])
    assert [note.split(": ")[0] for note in plan.notes if "7 to 22 times" in note] == [kind] * notes


class CommittedTexts(GivenTexts, frozen=True):
    """Texts of a data set that has commits, as the hub's."""

    commit: str | None = None
    now: str = "abc"
    """The commit that can be found out."""

    def pinned(self) -> "CommittedTexts":
        return self if self.commit else self.model_copy(update={"commit": self.now})

    def commit_read(self) -> str | None:
        return self.commit

    def pin_note(self) -> str:
        return f"at {self.commit}"


class TestCommitsOfTexts:
    @staticmethod
    def plan(held: Sweep | None = None, **changes: Any) -> Plan:
        entries = [GivenTexts(texts=(ONE,)), CommittedTexts(texts=(TWO,), **changes)]
        return make_plan(toy_sweep().model_copy(update={"texts": tuple(entries)}), held=held)

    def test_are_found_out_once_noted_and_kept_in_the_sweep(self):
        plan = self.plan()
        assert plan.text_commits == {"texts.1": "abc"}
        assert plan.notes == ("texts.1: at abc",)
        assert plan.sweep.texts[1].commit_read() == "abc"

    def test_of_a_run_are_those_of_its_sweep(self):
        held = self.plan().sweep
        later = held.model_copy(update={"texts": (held.texts[0], held.texts[1].model_copy(update={"now": "def"}))})
        opened = later.texts[1].model_copy(update={"commit": None})
        plan = make_plan(later.model_copy(update={"texts": (later.texts[0], opened)}), held=later)
        assert plan.text_commits == {"texts.1": "abc"}
        assert self.plan(held=held, commit="fed").text_commits == {"texts.1": "fed"}
