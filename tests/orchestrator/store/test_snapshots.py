"""Snapshots are kept whatever an engine is called, and their faults are counted, not raised."""

import pytest

from orchestrator.store.local_files import LocalFiles
from orchestrator.store.snapshots import SNAPSHOT_FOLDER, Snapshots, remove_snapshots
from tasks.values import Snapshot

SAVED = Snapshot(probe_id="probe", steps=3, state=b"state")


@pytest.fixture
def files(tmp_path) -> LocalFiles:
    return LocalFiles(tmp_path)


@pytest.mark.parametrize("engine", ["engine " + "m" * 239 + " 0", "é😀" * 200, "a/../b", "engine a:b*[1]? 0", ""])
def test_of_an_engine_of_any_name_are_read_by_the_next_session(files, engine):
    snapshots = Snapshots(files, "20260101T000000-abcdef")
    snapshots.save(engine, [SAVED])
    assert snapshots.faults is None
    assert Snapshots(files, "next").state_of("probe") == b"state"


def test_engines_of_like_names_do_not_replace_each_other(files):
    snapshots = Snapshots(files, "first")
    for number, engine in enumerate(["engine a/b 0", "engine a-b 0", "engine a b 0"]):
        snapshots.save(engine, [Snapshot(probe_id=f"probe{number}", steps=1, state=b"")])
    following = Snapshots(files, "next")
    assert all(following.state_of(f"probe{number}") == b"" for number in range(3))


def test_faults_of_writing_are_counted_with_the_first_reason(files, tmp_path):
    (tmp_path / SNAPSHOT_FOLDER).write_text("no folder")
    snapshots = Snapshots(files, "first")
    for _ in range(3):
        snapshots.save("engine", [SAVED])
    assert snapshots.faults is not None
    assert "4 times" in snapshots.faults  # the folder cannot be listed, either
    assert "File exists" in snapshots.faults or "Not a directory" in snapshots.faults
    remove_snapshots(files)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_so_are_those_of_reading_and_the_others_are_read(files, tmp_path, content):
    Snapshots(files, "first").save("engine", [SAVED])
    damaged = tmp_path / SNAPSHOT_FOLDER / "old.parquet"
    damaged.mkdir() if content is None else damaged.write_bytes(content)
    snapshots = Snapshots(files, "next")
    assert "once" in (snapshots.faults or "")
    assert snapshots.state_of("probe") == b"state"


@pytest.mark.usefixtures("no_page")
def test_a_run_says_so_once_and_ends_as_if_nothing_had_been(toy_sweep, tmp_path, capsweep, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("orchestrator.store.snapshots.write_table", full)
    toy_sweep.write_text(toy_sweep.read_text() + "engines: {snapshot_seconds: 0.001}\n")
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert 1 <= ended.stdout.count("snapshots could not be read or written") <= 2
    assert ended.stdout.count("no space left") <= 2
