"""Sweep files, texts, run directories and command lines that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

VERBS = [
    ("resume",),
    ("extend", "toy.yaml"),
    ("status",),
    ("report",),
    ("verify",),
    ("decode", "3f2a"),
    ("export", "--to", "memories"),
]
"""Every verb that takes a run directory, with what else it wants."""


pytestmark = pytest.mark.usefixtures("no_page")


class TestSweepFiles:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"serch": {}}, ["serch: unknown key.", "known: name, task,", "Did you mean 'search'?"]),
            ({"search": {"max_length": "12"}}, ["search.max_length: found '12'", "a whole number", "did you mean 12?"]),
            ({"seeds": 3}, ["seeds: found 3; it should be a list.", "Did you mean [3]?"]),
            ({"num_vectors": 0}, ["num_vectors: found 0; it should be a list of whole numbers of at least 1"]),
            ({"num_vectors": [0]}, ["num_vectors.0: found 0; it should be greater than or equal to 1."]),
            ({"texts": [{"source": "files", "path": "txts"}]}, ["texts.0.path: found 'txts'", "no such file", "tried"]),
            ({"models": ["./nowhere"]}, ["models.0.name: found './nowhere'", "no such file or folder", "tried"]),
        ],
    )
    def test_one_line_names_file_and_place(self, one_problem, sweep, changes, expected):
        path = sweep(**changes)
        line = one_problem(path)
        assert line.startswith(f"{path}: {expected[0]}")
        assert all(words in line for words in expected)

    def test_a_file_that_is_not_there(self, one_problem, tmp_path):
        assert one_problem(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: there is no such file. Check the path."

    def test_a_folder(self, one_problem, tmp_path):
        assert one_problem(tmp_path) == f"{tmp_path}: cannot be read (Is a directory). Wanted a YAML file."

    def test_another_encoding(self, one_problem, toy_sweep):
        toy_sweep.write_bytes("name: größe\n".encode("latin-1"))
        assert one_problem(toy_sweep) == f"{toy_sweep}: not UTF-8 at byte 8. Wanted a YAML file in UTF-8."

    def test_all_problems_of_the_file_at_once(self, refused, sweep):
        lines = refused("run", sweep(serch={}, num_vectors=[0], models=[]), "--inline")
        assert {line.split(": ")[1] for line in lines} == {"serch", "num_vectors.0", "models"}


class TestTexts:
    def test_an_empty_folder(self, one_problem, sweep, tmp_path):
        (tmp_path / "none").mkdir()
        line = one_problem(sweep(texts=[{"source": "files", "path": "none"}]))
        assert line == (
            f"texts.0: {tmp_path / 'none'}: no usable file; found nothing; "
            "wanted .txt, .jsonl, .ndjson, .parquet, .csv."
        )

    def test_fewer_texts_than_asked_for(self, one_problem, sweep):
        line = one_problem(sweep(texts=[{"source": "files", "path": "texts", "samples": 15}]))
        assert line.startswith("texts.0: 15 samples were asked for, the source has 12.")
        assert "--allow-fewer" in line

    def test_fewer_texts_may_be_allowed(self, capsweep, sweep, tmp_path):
        path = sweep(texts=[{"source": "files", "path": "texts", "samples": 15}])
        assert capsweep("check", path, "--allow-fewer").returncode == 0
        ended = capsweep("run", path, "--inline", "--allow-fewer", "--run-dir", tmp_path / "run")
        assert ended.returncode == 0
        assert "15 samples were asked for, the source has 12. Continuing with 12." in ended.stdout
        assert "12 searches" in ended.stdout


class TestRunDirectories:
    @pytest.fixture
    def run(self, finished: Callable[..., Path], toy_sweep: Path) -> Path:
        """A finished run of the toy's sweep."""
        return finished(toy_sweep)

    def test_one_that_holds_another_sweep(self, refused, run, sweep):
        (line,) = refused("run", sweep(seeds=[1]), "--inline", "--run-dir", run)
        assert line.startswith(f"{run}: already holds another sweep")
        assert "Choose another --run-dir" in line
        assert "capsweep resume" in line

    def test_one_that_holds_other_things(self, refused, toy_sweep, tmp_path):
        (line,) = refused("run", toy_sweep, "--inline", "--run-dir", tmp_path / "texts")
        assert line.startswith(f"{tmp_path / 'texts'}: holds 00.txt, 01.txt, 02.txt, which is not part of a run.")
        assert "choose another --run-dir" in line

    def test_an_empty_one_will_do(self, capsweep, toy_sweep, tmp_path):
        (tmp_path / "run").mkdir()
        assert capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run").returncode == 0

    def test_a_file(self, refused, toy_sweep):
        (line,) = refused("run", toy_sweep, "--inline", "--run-dir", toy_sweep)
        assert line.startswith(f"{toy_sweep}: cannot be written to (Not a directory).")

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    @pytest.mark.parametrize("place", ["texts", "nowhere", "toy.yaml"])
    def test_what_is_no_run(self, refused, toy_sweep, verb, place):
        (line,) = refused(verb[0], place, *verb[1:])
        assert line.startswith(f"{place}: not a run directory (no sweep.yaml in it).")
        assert "Give the folder that `capsweep run` printed" in line

    @pytest.mark.parametrize("verb", ["status", "stop"])
    @pytest.mark.parametrize("job", ["toy-20260101-120000", "~nobody", "a\0b"])
    def test_a_job_without_its_cluster(self, refused, toy_sweep, verb, job):
        (line,) = refused(verb, job)
        assert line.endswith("for a job of a cluster, add --address, such as http://127.0.0.1:8265.")

    @pytest.mark.parametrize("verb", ["run", "resume", "extend", "tune"])
    def test_a_cluster_without_ray(self, refused, toy_sweep, finished, verb):
        run = finished(toy_sweep) if verb in ("resume", "extend") else None
        places = {"run": [toy_sweep], "tune": [toy_sweep, "--trials=1"], "resume": [run], "extend": [run, toy_sweep]}
        for more in ([], ["--dry-run"] if verb in ("run", "extend") else []):
            (line,) = refused(verb, *places[verb], "--inline", "--address", "ray://head:10001", *more)
            assert line == (
                "--inline --address ray://head:10001: a run in this process joins no cluster. Leave out one of them."
            )

    @pytest.mark.parametrize("verb", [*VERBS, ("runs",)], ids=lambda verb: verb[0])
    def test_a_name_that_no_folder_can_have(self, refused, toy_sweep, verb):
        (line,) = refused(verb[0], f"runs/{'é' * 128}", *verb[1:])
        assert line.endswith("a name in it has more than 255 bytes, which no folder may have. Shorten it.")

    def test_nor_can_that_of_a_new_run(self, refused, toy_sweep):
        (line,) = refused("run", toy_sweep, "--inline", "--run-dir", "x" * 256)
        assert line.endswith("Shorten it.")

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    def test_a_storage_that_nobody_knows(self, refused, verb):
        (line,) = refused(verb[0], "nosuch://place", *verb[1:])
        assert line.startswith("nosuch://place: this storage cannot be reached (Protocol not known: nosuch).")

    @pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
    @pytest.mark.parametrize("content", ["task: [", "name: toy\n"])
    def test_a_run_whose_sweep_and_its_copy_cannot_be_read(self, refused, run, verb, content):
        (run / "sweep.yaml").write_text(content)
        provenance = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps({**provenance, "sweep": content}))
        (line,) = refused(verb[0], run, *verb[1:])
        assert line.startswith(f"{run}/sweep.yaml: damaged (it cannot be read as this version writes it")
        assert "restore it" in line

    def test_a_search_that_is_not_in_the_run(self, refused, run):
        (line,) = refused("decode", run, "zz")
        assert line.startswith("'zz': no search_ids of this run begin with it; wanted one search_id of searches.")

    def test_too_short_a_beginning_of_a_search_id(self, refused, run):
        (line,) = refused("decode", run, "")
        assert line.startswith("'': 12 search_ids of this run begin with it; ")

    def test_a_file_to_export_to(self, refused, run, toy_sweep):
        (line,) = refused("export", run, "--to", toy_sweep)
        assert line == f"{toy_sweep}: cannot be written to (File exists). Choose another --to."


class TestTheCommandLine:
    @pytest.mark.parametrize("arguments", [["run"], ["run", "toy.yaml", "--inlined"], ["rnu", "toy.yaml"]])
    def test_what_it_does_not_know(self, refused, toy_sweep, arguments):
        assert any("Usage: " in line for line in refused(*arguments))
