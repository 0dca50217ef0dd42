"""YAML that is small on disk and huge in RAM, or never ends: refused in one line, at once."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import BadInput
from orchestrator.runs.directory import open_run
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import dump
from orchestrator.spec.yaml_file import LONGEST_FILE, parse_yaml, read_mapping

SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")

BOMBS = {
    "lists of lists": "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
    "merged mappings": "a0: &a0 {k: v}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12)),
    "in a recipe": "recipe:\n  a0: &a0 {k: v}\n"
    + "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
    "a long text": f"a: &a {'x' * 50_000}\nb: [{', '.join(['*a'] * 100)}]\n",
    "a long file": "a: " + "x" * LONGEST_FILE,
    "brackets": "a: " + "[" * 50_000,
}
WORDS = ("its aliases stand for more than any file may hold", "wanted a shorter file", "RecursionError")


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_in_one_line(tmp_path, kind):
    (tmp_path / "a.yaml").write_text(BOMBS[kind])
    with pytest.raises(BadInput) as error:
        read_mapping(tmp_path / "a.yaml")
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{tmp_path / 'a.yaml'}: not YAML: ")
    assert any(words in line for words in WORDS)


@pytest.mark.parametrize("kind", ["lists of lists", "merged mappings", "a long file"])
def test_so_are_those_in_a_run(tmp_path, kind):
    (tmp_path / "sweep.yaml").write_text(BOMBS[kind])
    with pytest.raises(BadInput, match=r"sweep\.yaml: damaged \(it cannot be read as this version writes it") as error:
        open_run(str(tmp_path))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "number"), [("010", 8), ("-007", -7), ("1:30", 90), ("1:00:00", 3600)])
def test_a_number_that_means_another_one_is_refused(tmp_path, text, number):
    (tmp_path / "a.yaml").write_text(f"a: '{text}'\nb: 0\nc: [10, 0x10]\nd: {text}\n")
    with pytest.raises(BadInput, match=rf"line 4, column 4: found {text}, which YAML reads as {number}; write that"):
        read_mapping(tmp_path / "a.yaml")


def test_a_run_of_every_checkpoint_of_eight_models_is_read_back():
    models = [{"name": f"EleutherAI/pythia-{size}", "revisions": [f"step{n}000" for n in range(154)]} for size in SIZES]
    texts = [{"source": "files", "path": "texts"}]
    sweep = Sweep.model_validate({"name": "checkpoints", "task": "toy", "models": models, "texts": texts})
    pinned = [replace(model, commit=40 * "a", radius=0.5) for model in sweep.models]
    written = dump(sweep.model_copy(update={"models": tuple(pinned)}))
    assert Sweep.model_validate(parse_yaml(written)[0]).models == tuple(pinned)


def test_aliases_of_a_usual_file_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a [1, 2]\nb: *a\nc: &c {d: 1}\ne: {<<: *c, f: 2}\n")
    found, _ = read_mapping(tmp_path / "a.yaml")
    assert found == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}, "e": {"d": 1, "f": 2}}


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, zero])
def test_what_never_ends_is_refused(tmp_path, make):
    make(tmp_path / "a.yaml")
    with pytest.raises(BadInput, match=r"a pipe or device\. Wanted a YAML file\."):
        read_mapping(tmp_path / "a.yaml")
