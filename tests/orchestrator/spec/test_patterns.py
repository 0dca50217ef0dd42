"""Patterns of files: what exists means itself, and only the rest is a pattern."""

from pathlib import Path

import pytest

from orchestrator.cluster.jobs.submission import stage
from orchestrator.spec.sweep_file import load_sweep
from tasks.texts.files import FilesSource
from tasks.texts.patterns import match

ODD_FOLDERS = ("exp[1]", "a*b", "what?", "[!x]", "{a,b}")


@pytest.fixture(params=ODD_FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose name is like a pattern, beside one that this pattern would match."""
    for name, text in ((request.param, "mine"), ("exp1", "another's"), ("acb", "another's"), ("y", "another's")):
        (tmp_path / name / "texts").mkdir(parents=True)
        (tmp_path / name / "texts" / "1.txt").write_text(text)
    return tmp_path / request.param


def sweep_in(folder: Path, path: str = "texts/*.txt") -> Path:
    spec = folder / "sweep.yaml"
    spec.write_text(f"name: a\ntask: toy\nmodels: [toy/model]\ntexts: [{{source: files, path: '{path}'}}]\n")
    return spec


def test_a_pattern_below_it_matches_what_lies_there(folder):
    assert match(folder / "texts" / "*.txt") == (folder / "texts", [folder / "texts" / "1.txt"])
    assert match(folder / "*" / "*.txt") == (folder, [folder / "texts" / "1.txt"])


def test_texts_are_those_of_the_sweep_beside_them(folder):
    (entry,) = load_sweep(sweep_in(folder)).texts
    assert [(text.source, text.text) for text in entry.read()] == [("files:1.txt", "mine")]


def test_a_file_whose_name_is_like_a_pattern_is_that_file(tmp_path):
    for name in ("a[1].txt", "a1.txt"):
        (tmp_path / name).write_text(name)
    assert [text.text for text in FilesSource(path=str(tmp_path / "a[1].txt")).read()] == ["a[1].txt"]


def test_a_job_takes_along_what_the_sweep_means(folder, tmp_path):
    sent = tmp_path / "sent"
    stage(load_sweep(sweep_in(folder)), sent)
    assert [path.read_text() for path in sent.rglob("*.txt") if path.name == "1.txt"] == ["mine"]
    (entry,) = load_sweep(sent / "sweep.yaml").texts
    assert [text.text for text in entry.read()] == ["mine"]
