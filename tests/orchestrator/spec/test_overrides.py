"""Fields set on the command line: the same sweep as of a file that has them, and messages that say where from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import BadInput
from orchestrator.spec.overrides import read_overrides, with_overrides
from orchestrator.spec.sweep_file import dump, load_sweep
from tasks.registry import TASKS

BASE: dict[str, Any] = {
    "name": "base",
    "models": ["a/b", {"name": "c/d", "revision": "main"}],
    "texts": [{"source": "files", "path": "texts/", "samples": 4}],
    "search": {"retries": 1},
    "recipe": "published",
    "criterion": {"teacher_forced": 0.9},
}


@pytest.fixture
def write(toy_sweep: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = toy_sweep.with_name("sweep.yaml")
        path.write_text(yaml.safe_dump({**BASE, **changes}))
        return path

    return write


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["num_vectors=[1,2]"], {"num_vectors": [1, 2]}),
        (["seeds=[1]", "seeds=[2]"], {"seeds": [2]}),
        (["name=other", "storage=s3://bucket/runs"], {"name": "other", "storage": "s3://bucket/runs"}),
        (["search.max_length=30"], {"search": {"retries": 1, "max_length": 30}}),
        (["search={max_length: 30}"], {"search": {"retries": 1, "max_length": 30}}),
        (["search.retries=null", "search.retries=2"], {"search": {"retries": 2}}),
        (["budget.minutes=3"], {"budget": {"minutes": 3}}),
        (["models.0.dtype=bfloat16"], {"models": [{"name": "a/b", "dtype": "bfloat16"}, BASE["models"][1]]}),
        (["models[1].revision=x"], {"models": ["a/b", {"name": "c/d", "revision": "x"}]}),
        (["models.0=e/f", "models.0.radius=2.5e-1"], {"models": [{"name": "e/f", "radius": 0.25}, BASE["models"][1]]}),
        (["models.0.revisions=[x,y]"], {"models": [{"name": "a/b", "revisions": ["x", "y"]}, BASE["models"][1]]}),
        (["models=[e/f]"], {"models": ["e/f"]}),
        (["texts.0.samples=2"], {"texts": [{**BASE["texts"][0], "samples": 2}]}),
        (["texts.0.path=texts/01.txt"], {"texts": [{**BASE["texts"][0], "path": "texts/01.txt"}]}),
        (["criterion=exact"], {"criterion": "exact"}),
        (["recipe=default"], {"recipe": "default"}),
        (["recipe.optimizer=sphere"], None),  # fields of the published recipe, which sphere does not have
        (["engines.deterministic=true", "prefix=bos"], {"engines": {"deterministic": True}, "prefix": "bos"}),
    ],
    ids=str,
)
def test_the_sweep_is_that_of_a_file_that_has_them(write, words, changes):
    if changes is None:
        with pytest.raises(BadInput, match="unknown key"):
            load_sweep(write(), words)
        return
    assert load_sweep(write(), words) == load_sweep(write(**changes))


def test_a_field_of_a_recipe_that_is_given_by_name_changes_that_recipe(write):
    recipe = load_sweep(write(), ["recipe.learning_rate=1e-3"]).recipe
    assert recipe == {**TASKS["cramming"].recipe("published"), "learning_rate": 0.001}


def test_where_the_task_is_wrong_the_name_of_a_recipe_stands_for_nothing(write):
    with pytest.raises(BadInput) as caught:
        load_sweep(write(task=["cramming"]), ["recipe.steps=3"])
    assert [line.split(": ")[1] for line in caught.value.problems] == [
        'recipe is "published" in the file, without fields. Give it as a whole.',
        "task",
    ]


def test_what_a_run_keeps_of_it_is_read_as_the_same_sweep(write, tmp_path):
    sweep = load_sweep(write(), ["models.0.dtype=bfloat16", "num_vectors=[1,2]"])
    (tmp_path / "kept.yaml").write_text(dump(sweep))
    assert load_sweep(tmp_path / "kept.yaml") == sweep


def test_an_alias_elsewhere_in_the_file_keeps_its_value():
    shared = {"retries": 1}
    document = {"search": shared, "engines": shared}
    overrides, problems = read_overrides(["search.retries=2"])
    changed, misplaced = with_overrides(document, overrides)
    assert problems == misplaced == []
    assert changed == {"search": {"retries": 2}, "engines": {"retries": 1}}
    assert document == {"search": shared, "engines": shared} == {"search": {"retries": 1}, "engines": {"retries": 1}}


WRONG = {
    "num_vectors=[0]": "num_vectors.0: found 0; it should be greater than or equal to 1.",
    "num_vectors=4": "num_vectors: found 4; it should be a list. Did you mean [4]?",
    "num_vector=[4]": "num_vector: unknown key. known: name, task, ",
    "+seeds=[1]": "+seeds: unknown key. known: name, task, ",
    "models.0.dtype=float8": "models.0.dtype: found 'float8'. known: float32, bfloat16, float16, auto.",
    "models.0.dtyp=auto": "models.0.dtyp: unknown key. known: name, gguf_file, revision, ",
    "models.2.dtype=auto": "models.2: no such entry. The file has 2 entries there, and the first is models.0;",
    "models.-1.dtype=auto": "models.-1: no such entry.",
    "models.a=b/c": "models.a: no such entry.",
    "models.²=b/c": "models.²: no such entry.",
    "texts.0.path=none/": "texts.0.path: found 'none/', but there is no such file or folder; tried ",
    "texts.0.name.first=a": "texts.0.name: found {'first': 'a'}; it should be text.",
    "name.first=a": 'name is "base" in the file, without fields. Give it as a whole.',
    "search.retries.x=1": "search.retries is 1 in the file, without fields. Give it as a whole.",
    "recipe.patiense=3": "recipe.patiense: unknown key. known: ",
    "recipe.steps=0": "recipe.steps: found 0; it should be greater than or equal to 1.",
    "task=craming": "task: 'craming' is not a task. known: cramming, ",
    'storage="a\\nb"': "storage: found 'a\\nb'; text must not hold the character '\\n'.",
    "seeds": "not an override. Wanted KEY=VALUE, such as num_vectors=[1,2] or models.0.dtype=bfloat16.",
    "a\\=b=3": "cannot be read: ",
    "=3": "not an override. Wanted KEY=VALUE",
    "seeds=[1": "cannot be read: expected ',' or ']', but got '<stream end>'. Wanted KEY=VALUE",
    "seeds=[${]": "cannot be read: ",
    f"seeds=[{'9' * 400}]": "cannot be read: found a whole number of more than 1024 bits.",
    "name=${oc.env:HOME}": "name: found '${oc.env:HOME}'",
}


@pytest.mark.parametrize("word", WRONG, ids=lambda word: repr(word)[:40])
def test_each_problem_is_one_line_that_begins_with_the_word(write, word):
    with pytest.raises(BadInput) as caught:
        load_sweep(write(), ["seeds=[3]", word])
    begin = word if len(word) <= 80 else f"{word[:77]}..."
    assert [line.startswith(f"{begin}: {WRONG[word]}") for line in caught.value.problems] == [True], caught.value


def test_credentials_are_refused_and_not_repeated(write):
    with pytest.raises(BadInput) as caught:
        load_sweep(write(), [f"storage=s3://key:{'secret' * 20}@bucket/"])
    (line,) = caught.value.problems
    assert line.startswith("storage=s3://[redacted]@bucket/: storage: s3://[redacted]@bucket/ holds credentials.")


@pytest.mark.parametrize("word", ["name=\udcff", "name=\x1b[31m", "name=a\nb", "a\nb"])
def test_a_word_that_a_terminal_would_not_show_is_still_one_line(write, word):
    with pytest.raises(BadInput) as caught:
        load_sweep(write(), [word])
    (line,) = caught.value.problems
    assert line.isprintable()
    assert line.startswith(repr(word))


def test_all_problems_of_file_and_words_are_told_at_once_each_with_its_origin(write):
    path = write(seeds=[-1], serch={}, num_vectors=[0])
    with pytest.raises(BadInput) as caught:
        load_sweep(path, ["num_vectors=[2]", "budget.minutes=0", "models.5=a/b", "what"])
    origins = sorted(line.split(": ")[0] for line in caught.value.problems)
    assert origins == sorted([str(path), str(path), "budget.minutes=0", "models.5=a/b", "what"])
