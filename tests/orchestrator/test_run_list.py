"""`capsweep runs`: what is shown of the runs below a folder, of damaged ones and of folders that are none."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli import app
from orchestrator.run_list import list_runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def capsweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orchestrator.launch.write_report", lambda run, searches: "")

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def finished(capsweep: Callable[..., Result], toy_sweep: Path, runs: Path) -> Path:
    """A finished run."""
    assert capsweep("run", toy_sweep, "--inline", "--run-dir", runs / "first").exit_code == 0
    return runs / "first"


def begun_at(run: Path, moment: str) -> None:
    """Let a copied run have begun at another time."""
    path = run / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["sessions"][0]["started_at"] = moment
    path.write_text(json.dumps(provenance))


def test_a_run_in_two_lines(finished, capsweep, runs):
    ended = capsweep("runs", runs)
    assert ended.exit_code == 0, ended.output
    first, second = ended.stdout.splitlines()
    assert first.startswith("first  12 of 12 done  ")
    assert first.endswith(" tokens")
    assert second.startswith("    toy · model · 12 texts · k 1 · 20")


def test_what_is_read_of_a_run(finished, runs, searches_of):
    (listed,) = list_runs(str(runs)).runs
    capacities = [row["capacity_tokens"] for row in searches_of(finished)]
    assert (listed.name, listed.task, listed.models) == ("first", "toy", ("toy/model",))
    assert (listed.done, listed.open, listed.failed, listed.sessions) == (12, 0, 0, 1)
    assert listed.mean_tokens == pytest.approx(sum(capacities) / 12)
    assert listed.begun <= listed.written
    assert listed.writer is None
    assert "ended_at" in json.loads((finished / "provenance.json").read_text())["sessions"][0]


def test_the_newest_comes_first_and_the_rest_on_demand(finished, capsweep, runs):
    for name, moment in (("old", "2020-01-01T00:00:00+00:00"), ("new", "2040-01-01T00:00:00+00:00")):
        shutil.copytree(finished, runs / name)
        begun_at(runs / name, moment)
    assert [run.name for run in list_runs(str(runs)).runs] == ["new", "first", "old"]
    output = capsweep("runs", runs, "--limit", 1).stdout
    assert output.startswith("new ")
    assert "old " not in output
    assert "the newest 1 of 3 runs" in output


def test_one_line_of_json_a_run(finished, capsweep, runs):
    (line,) = capsweep("runs", runs, "--json").stdout.splitlines()
    listed = json.loads(line)
    assert (listed["name"], listed["done"], listed["models"]) == ("first", 12, ["toy/model"])


def test_rows_are_not_read(finished, runs):
    shutil.rmtree(finished / "probes")
    assert list_runs(str(runs)).runs[0].done == 12


def test_who_writes_now(finished, capsweep, runs):
    holder = {"session_id": "s", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    (finished / "lock").write_text(json.dumps(holder))
    output = capsweep("runs", runs).stdout
    assert f"process {os.getpid()} on {socket.gethostname()} writes" in output
    assert "`capsweep status RUN` counts anew" in output
    (finished / "lock").write_text(json.dumps({**holder, "heartbeat": time.time() - 3600}))
    assert list_runs(str(runs)).runs[0].writer is None


def test_damaged_and_foreign_folders_are_named_in_a_line_each(finished, capsweep, runs):
    for name in ("torn", "no provenance", "odd provenance", "odd time"):
        shutil.copytree(finished, runs / name)
    (runs / "torn" / "searches.parquet").write_bytes(b"PAR1 and no more")
    (runs / "no provenance" / "provenance.json").unlink()
    (runs / "odd provenance" / "provenance.json").write_text('{"sessions": []}')
    (runs / "odd time" / "provenance.json").write_text('{"sessions": [{"started_at": 5}]}')
    (runs / "notes\x1b[2J").mkdir()
    (runs / "a file.txt").write_text("no run")
    ended = capsweep("runs", runs)
    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("first ")
    assert [line.split(":")[0] for line in lines[2:]] == [
        "no provenance",
        "odd provenance",
        "odd time",
        "torn",
        "no runs",
    ]
    assert "damaged" in lines[5]
    assert "\x1b" not in ended.stdout


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_folder_shows_how_to_make_a_run(capsweep, runs, made):
    if made:
        runs.mkdir()
    ended = capsweep("runs")
    assert ended.exit_code == 0
    assert ended.stdout == "no runs in runs/; `capsweep run SPEC` makes one, `storage` in SPEC sets where.\n"


def test_a_run_itself(finished, capsweep):
    ended = capsweep("runs", finished)
    assert ended.exit_code == 2
    assert "is a run itself" in ended.stderr


def test_on_an_object_store(finished):
    memory = fsspec.filesystem("memory")
    memory.put(str(finished), "/store/first", recursive=True)
    try:
        listing = list_runs("memory://store")
        assert [(run.name, run.done) for run in listing.runs] == [("first", 12)]
        assert not listing.damaged
    finally:
        memory.rm("/store", recursive=True)


def test_a_thousand_runs_are_listed_in_seconds(finished, runs):
    for name in ("probes", "report", "logs", "snapshots"):
        shutil.rmtree(finished / name, ignore_errors=True)
    for number in range(999):
        (runs / f"copy-{number}").mkdir()
        for file in ("sweep.yaml", "provenance.json", "searches.parquet"):
            (runs / f"copy-{number}" / file).symlink_to(finished / file)
    started = time.process_time()
    assert len(list_runs(str(runs)).runs) == 1000
    assert time.process_time() - started < 15
