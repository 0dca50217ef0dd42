"""Whole sessions that meet in one run, and runs whose names a pattern would read in its own way."""

import json
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.runs.listing import list_runs
from orchestrator.store.claims import SESSION_FOLDER
from orchestrator.store.files import open_files


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that others use may take a second for each sync."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


QUICK = "search: {retries: 0}\nrecipe: {steps: 8, step_seconds: 0.02, slots: 2, spread: 0.5}\n"


def verdicts(run: str | Path) -> Counter[str]:
    """probe_id -> rows on disk with a verdict, as no reader of the product counts them."""
    files, found = open_files(str(run)), Counter[str]()
    for name in files.names("probes", suffix=".parquet"):
        rows = pq.read_table(pa.BufferReader(files.read(name)), columns=["probe_id", "outcome"], use_threads=False)
        found.update(row["probe_id"] for row in rows.to_pylist() if row["outcome"] != "failed")
    return found


def few_texts(toy_sweep: Path, count: int) -> Path:
    text = toy_sweep.read_text().replace("path: texts/", f"path: texts/, samples: {count}")
    toy_sweep.write_text(text + QUICK)
    return toy_sweep


MOMENTS = ("os.rename lock 2", "os.rename probes/.*[.]parquet 2")
"""Between its look at the claims and its heartbeat, and between its look and its rows."""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
@pytest.mark.slow
def test_a_session_that_was_frozen_ends_in_one_line_and_repeats_nothing(toy_sweep, tmp_path):
    spec = few_texts(toy_sweep, 4)
    command = [sys.executable, "-m", "tests.chaos.freezing", "sessions", str(tmp_path), *MOMENTS, str(spec)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for number, (line, moment) in enumerate(zip(ended.stdout.splitlines(), MOMENTS, strict=True)):
        found: dict[str, Any] = json.loads(line)
        assert found["moment"] == moment
        assert found["frozen"]
        # The other was at work when this one woke up, and went on undisturbed.
        assert (found["code"], found["other"], found["changed"]) == (1, 0, []), found
        *_, said = found["said"].splitlines()
        assert "has lost this run; its rows are not written: process" in said
        assert found["said"].count("lost this run") == 1
        assert "Traceback" not in found["said"]
        assert "resume" not in found["said"], "the other session continues it"
        run = tmp_path / f"run{number}"
        assert set(verdicts(run).values()) == {1}
        assert not list(run.rglob("*.tmp"))
        assert not (run / "lock").exists()
        sessions = json.loads((run / "provenance.json").read_text())["sessions"]
        assert [("ended_at" in session) for session in sessions][-2:] in ([False, True], [True])


@pytest.mark.parametrize("place", ["exp[1]", "a*b?", "{x,y}[!z]"])
@pytest.mark.parametrize("store", ["folder", "objects"])
def test_a_run_whose_name_is_like_a_pattern_is_read_back(store, place, toy_sweep, tmp_path, capsweep, no_page):
    root = f"{tmp_path / place}" if store == "folder" else f"memory://{uuid.uuid4().hex}/{place}"
    run = f"{root}/run"
    spec = few_texts(toy_sweep, 2)
    try:
        assert capsweep("run", spec, "--inline", "--run-dir", run).returncode == 0
        before = verdicts(run)
        assert set(before.values()) == {1}
        resumed = capsweep("resume", run, "--inline")
        assert resumed.returncode == 0
        assert "2 searches, 0 open" in resumed.stdout
        assert verdicts(run) == before
        assert len(open_files(run).names(SESSION_FOLDER, suffix=".json")) == 2
        (listed,) = list_runs(root).runs
        assert (listed.name, listed.done, listed.writer) == ("run", 2, None)
        assert "2 measured" in capsweep("status", run).stdout
    finally:
        fsspec.filesystem("memory").store.clear()


def test_a_store_that_does_not_list_what_was_written_is_no_place_for_a_run(toy_sweep, capsweep, monkeypatch):
    """The session would find none of its rows, and the next would run every probe again."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "ls", lambda self, path, detail=True, **options: [])
    run = f"memory://{uuid.uuid4().hex}/run"
    refused = capsweep("run", few_texts(toy_sweep, 1), "--inline", "--run-dir", run)
    assert refused.returncode == 2
    assert "its listing lacks sessions/000001.json" in refused.stderr
    assert not [name for name in memory.store if run.removeprefix("memory:/") in name]
