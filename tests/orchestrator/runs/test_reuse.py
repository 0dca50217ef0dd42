"""Finished searches of one run are taken over by another that asks the same questions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import orchestrator
from orchestrator.runs.directory import open_run

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture
def first(toy_sweep: Path, finished: Callable[..., Path]) -> Path:
    """A finished run of the first eight texts."""
    spec = toy_sweep.with_name("first.yaml")
    spec.write_text(toy_sweep.read_text().replace("path: texts/", "path: texts/, samples: 8"))
    return finished(spec, "first")


@pytest.fixture
def second(toy_sweep: Path) -> Path:
    """A sweep file that asks for all twelve texts, under other names."""
    texts = toy_sweep.with_name("renamed")
    texts.mkdir()
    for path in (toy_sweep.parent / "texts").iterdir():
        (texts / f"again-{path.name}").write_text(path.read_text())
    spec = toy_sweep.with_name("second.yaml")
    spec.write_text(toy_sweep.read_text().replace("path: texts/", "path: renamed/, name: again"))
    return spec


def rows_of(run: Path) -> list[dict]:
    return orchestrator.read(str(run)).probes.to_pylist()


def last_session(run: Path) -> dict:
    return json.loads((run / "provenance.json").read_text())["sessions"][-1]


def test_what_is_finished_is_taken_with_its_memories(first, second, capsweep, tmp_path):
    run = tmp_path / "second"
    ended = capsweep("run", second, "--inline", "--run-dir", run, "--reuse", first)
    assert ended.returncode == 0, ended.stderr
    assert f"8 finished searches taken over from {first}." in ended.stdout
    assert "12 searches, 4 open" in ended.stdout
    taken = {row["probe_id"]: row for row in rows_of(first)}
    here = rows_of(run)
    assert sum(row["run_id"] == "second" for row in here) == len(here) - len(taken)
    for row in here:
        assert row["source"].startswith("again:again-")
        if row["probe_id"] in taken:
            assert row["memory"] == taken[row["probe_id"]]["memory"]
            assert row["session_id"] == taken[row["probe_id"]]["session_id"]
    assert last_session(run)["reused"] == [{"run": str(first), "searches": 8, "rows": len(taken)}]
    verified = capsweep("verify", run)
    assert verified.returncode == 0
    assert verified.stdout.endswith(" exact, 0 not\n")


def test_the_results_are_those_of_a_run_without_reuse(first, second, capsweep, tmp_path, searches_of):
    for name, words in (("alone", ()), ("reusing", ("--reuse", first))):
        assert capsweep("run", second, "--inline", "--run-dir", tmp_path / name, *words).returncode == 0
    assert searches_of(tmp_path / "alone") == searches_of(tmp_path / "reusing")


def test_a_folder_of_runs_is_searched_and_nothing_is_taken_twice(first, second, capsweep, tmp_path):
    (tmp_path / "runs").mkdir()
    first.rename(tmp_path / "runs" / "first")
    run = tmp_path / "runs" / "second"
    assert capsweep("run", second, "--inline", "--run-dir", run, "--reuse", tmp_path / "runs").returncode == 0
    before = len(rows_of(run))
    again = capsweep("run", second, "--inline", "--run-dir", run, "--reuse", tmp_path / "runs")
    assert again.returncode == 0
    assert len(rows_of(run)) == before
    assert "reused" not in last_session(run)


def test_a_search_that_is_not_done_is_not_taken(first, second, capsweep, tmp_path):
    files = open_run(str(first)).files
    from orchestrator.store.parquet import read_probes, row_files, write_rows

    rows = read_probes(files)
    open_one = rows["search_id"].to_pylist()[0]
    mine = [row for row in rows.to_pylist() if row["search_id"] == open_one]
    kept = [row for row in rows.to_pylist() if row["search_id"] != open_one or row["probe_id"] != mine[-1]["probe_id"]]
    old = row_files(files)
    write_rows(files, "cut", rows.from_pylist(kept, schema=rows.schema))
    files.remove(*old)
    ended = capsweep("run", second, "--inline", "--run-dir", tmp_path / "second", "--reuse", first)
    assert f"7 finished searches taken over from {first}." in ended.stdout
    assert ended.returncode == 0


def test_nothing_is_taken_of_another_model_under_the_same_name(first, second, capsweep, tmp_path):
    provenance = json.loads((first / "provenance.json").read_text())
    provenance["models"]["toy/model"]["facts"]["fingerprint"] = "another"
    (first / "provenance.json").write_text(json.dumps(provenance))
    run = tmp_path / "second"
    ended = capsweep("run", second, "--inline", "--run-dir", run, "--reuse", first)
    assert ended.returncode == 0
    assert "for toy/model: its model of that name is another one (fingerprint another there, " in ended.stdout
    assert "12 searches, 12 open" in ended.stdout
    assert {row["run_id"] for row in rows_of(run)} == {"second"}


@pytest.mark.parametrize("damaged", ["provenance.json", "probes"])
def test_a_damaged_run_is_named_and_nothing_is_taken_from_it(first, second, capsweep, tmp_path, damaged):
    path = first / damaged if damaged.endswith(".json") else next((first / "probes").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-40])
    run = tmp_path / "second"
    ended = capsweep("run", second, "--inline", "--run-dir", run, "--reuse", first)
    assert ended.returncode == 0
    assert f"nothing is taken over from {first}: {first}/{damaged}" in ended.stdout
    assert {row["run_id"] for row in rows_of(run)} == {"second"}


def test_what_is_no_run_is_refused_before_anything_is_written(second, capsweep, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = capsweep("run", second, "--inline", "--run-dir", tmp_path / "second", "--reuse", tmp_path / "empty")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"--reuse {tmp_path}/empty: neither a run nor a folder of runs")
    assert not (tmp_path / "second").exists()
