"""`capsweep runs`: what is shown of the runs below a folder, of damaged ones and of folders that are none."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import pytest

from orchestrator.runs.listing import WANTED, list_runs
from orchestrator.store.local_files import LocalFiles


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def first(finished: Callable[..., Path], toy_sweep: Path, runs: Path) -> Path:
    """A finished run."""
    runs.mkdir()
    return finished(toy_sweep, "runs/first")


def begun_at(run: Path, moment: str) -> None:
    """Let a copied run have begun at another time."""
    path = run / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["sessions"][0]["started_at"] = moment
    path.write_text(json.dumps(provenance))


def test_a_run_in_two_lines(first, capsweep, runs):
    ended = capsweep("runs", runs)
    assert ended.returncode == 0, ended.stderr
    line, below = ended.stdout.splitlines()
    assert line.startswith("first  12 of 12 done  ")
    assert line.endswith(" tokens")
    assert below.startswith("    toy · model · 12 texts · k 1 · 20")


def test_what_is_read_of_a_run(first, runs, searches_of):
    (listed,) = list_runs(str(runs)).runs
    capacities = [row["capacity_tokens"] for row in searches_of(first)]
    assert (listed.name, listed.task, listed.models) == ("first", "toy", ("toy/model",))
    assert (listed.done, listed.open, listed.failed, listed.sessions) == (12, 0, 0, 1)
    (group,) = listed.capacities
    assert (group.model, group.num_vectors) == ("toy/model", 1)
    assert listed.mean_tokens == group.mean_tokens == pytest.approx(sum(capacities) / 12)
    assert listed.begun <= listed.written
    assert listed.writer is None
    assert "ended_at" in json.loads((first / "provenance.json").read_text())["sessions"][0]


@pytest.mark.parametrize(
    ("models", "vectors", "by"),
    [
        ("[toy/model, toy/other]", "[1]", "model"),
        ("[toy/model]", "[1, 2]", "k"),
        ("[toy/a, toy/b]", "[1, 3]", "model and k"),
    ],
)
def test_unlike_models_and_numbers_of_vectors_have_no_mean_together(
    finished, toy_sweep, runs, searches_of, capsweep, models, vectors, by
):
    runs.mkdir()
    toy_sweep.write_text(toy_sweep.read_text().replace("[toy/model]", models) + f"num_vectors: {vectors}\n")
    tokens: dict[tuple[str, int], list[int]] = {}
    for row in searches_of(finished(toy_sweep, "runs/several")):
        tokens.setdefault((row["model"], row["num_vectors"]), []).append(row["capacity_tokens"])
    means = {group: sum(some) / len(some) for group, some in tokens.items()}
    (listed,) = list_runs(str(runs)).runs
    assert listed.mean_tokens is None
    assert {(one.model, one.num_vectors): one.mean_tokens for one in listed.capacities} == pytest.approx(means)
    line = capsweep("runs", runs).stdout.splitlines()[0]
    assert line.endswith(f"  {min(means.values()):.1f} to {max(means.values()):.1f} tokens by {by}")


def test_the_newest_comes_first_and_the_rest_on_demand(first, capsweep, runs):
    for name, moment in (("old", "2020-01-01T00:00:00+00:00"), ("new", "2040-01-01T00:00:00+00:00")):
        shutil.copytree(first, runs / name)
        begun_at(runs / name, moment)
    assert [run.name for run in list_runs(str(runs)).runs] == ["new", "first", "old"]
    output = capsweep("runs", runs, "--limit", 1).stdout
    assert output.startswith("new ")
    assert "old " not in output
    assert "the newest 1 of 3 runs" in output


def test_one_line_of_json_a_run(first, capsweep, runs):
    (line,) = capsweep("runs", runs, "--json").stdout.splitlines()
    listed = json.loads(line)
    assert (listed["name"], listed["done"], listed["models"]) == ("first", 12, ["toy/model"])


def test_rows_are_not_read(first, runs):
    shutil.rmtree(first / "probes")
    assert list_runs(str(runs)).runs[0].done == 12


def test_who_writes_now(first, capsweep, runs):
    holder = {"session_id": "s", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    (first / "lock").write_text(json.dumps(holder))
    output = capsweep("runs", runs).stdout
    assert f"process {os.getpid()} on {socket.gethostname()} writes" in output
    assert "`capsweep status RUN` counts again" in output
    assert f"process {os.getpid()} on {socket.gethostname()} writes" in capsweep("status", first).stdout


@pytest.mark.parametrize("lock", ["absent", "of a session that lost the run"])
def test_the_claims_say_who_writes_as_status_does(first, capsweep, runs, lock):
    holder = {"session_id": "s", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    (first / "sessions" / "000009.json").write_text(json.dumps(holder))
    if lock != "absent":
        (first / "lock").write_text(json.dumps({**holder, "session_id": "lost", "pid": os.getppid()}))
    provenance = json.loads((first / "provenance.json").read_text())
    provenance["sessions"].append({**provenance["sessions"][-1], "session_id": "s"})
    del provenance["sessions"][-1]["ended_at"]
    (first / "provenance.json").write_text(json.dumps(provenance))
    for words in (("runs", runs), ("status", first)):
        assert f"process {os.getpid()} on {socket.gethostname()} writes" in capsweep(*words).stdout


@pytest.mark.parametrize(
    "gone",
    [{"heartbeat": 0.0}, {"pid": 2**22 + 1}, {"host": "elsewhere", "heartbeat": 0.0}],
    ids=["silent", "no such process", "on another machine"],
)
def test_a_session_that_is_gone_does_not_write(first, capsweep, runs, gone):
    holder = {"session_id": "s", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time()}
    (first / "lock").write_text(json.dumps({**holder, **gone}))
    assert list_runs(str(runs)).runs[0].writer is None
    assert "no session writes" in capsweep("status", first).stdout


def test_damaged_and_foreign_folders_are_named_in_a_line_each(first, capsweep, runs):
    for name in ("torn", "no provenance", "odd provenance", "odd time"):
        shutil.copytree(first, runs / name)
    (runs / "torn" / "searches.parquet").write_bytes(b"PAR1 and no more")
    (runs / "no provenance" / "provenance.json").unlink()
    (runs / "odd provenance" / "provenance.json").write_text('{"sessions": []}')
    (runs / "odd time" / "provenance.json").write_text('{"sessions": [{"started_at": 5}]}')
    (runs / "notes\x1b[2J").mkdir()
    (runs / "a file.txt").write_text("no run")
    ended = capsweep("runs", runs)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("first ")
    assert [line.split(":")[0] for line in lines[2:]] == [
        "no provenance",
        "odd provenance",
        "odd time",
        "torn",
        "not runs",
    ]
    assert "damaged" in lines[5]
    assert "\x1b" not in ended.stdout


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_folder_shows_how_to_make_a_run(capsweep, runs, tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    if made:
        runs.mkdir()
    ended = capsweep("runs")
    assert ended.returncode == 0
    assert ended.stdout == "no runs in runs/; `capsweep run SPEC` makes one, `storage` in SPEC sets where.\n"


def test_a_run_itself(first, capsweep):
    ended = capsweep("runs", first)
    assert ended.returncode == 2
    assert "is a run itself" in ended.stderr


def test_on_an_object_store(first):
    memory = fsspec.filesystem("memory")
    memory.put(str(first), "/store/first", recursive=True)
    try:
        listing = list_runs("memory://store")
        assert [(run.name, run.done) for run in listing.runs] == [("first", 12)]
        assert not listing.damaged
    finally:
        memory.rm("/store", recursive=True)


def test_the_small_files_of_many_runs_are_asked_for_together_and_once(first, runs, monkeypatch):
    for number in range(4):
        shutil.copytree(first, runs / f"copy-{number}")
    monkeypatch.setattr("orchestrator.runs.listing.READ_TOGETHER", 2)
    asked, read = list[int](), list[str]()
    read_all, read_one = LocalFiles.read_all, LocalFiles.read

    def counting(files: LocalFiles, names: Sequence[str]) -> dict[str, bytes]:
        asked.append(len(names))
        return read_all(files, names)

    def naming(files: LocalFiles, name: str) -> bytes:
        read.append(name)
        return read_one(files, name)

    monkeypatch.setattr(LocalFiles, "read_all", counting)
    monkeypatch.setattr(LocalFiles, "read", naming)
    assert len(list_runs(str(runs)).runs) == 5
    assert asked == [2 * len(WANTED), 2 * len(WANTED), len(WANTED)]
    of_runs = [f"{run.name}/{wanted}" for run in runs.iterdir() for wanted in WANTED]
    # The other one shows that the folder of the runs is no run itself.
    assert sorted(read) == sorted(["provenance.json", *of_runs])
