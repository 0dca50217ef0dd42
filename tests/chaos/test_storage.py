"""Disks that are full, stores that are slow, files that are damaged, sessions that meet: nothing torn or silent.

Long, as each fault of storage in docs/reliability.md has its test here.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import orchestrator
from orchestrator.store.files import open_files
from tests.chaos.harness import (
    Witness,
    begin,
    differences,
    end,
    num_row_files,
    searches_of,
    to_end,
    undisturbed,
    wait_until,
    write_sweep,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a small disk ({made.stderr.strip()})")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> None:
    """Leave no byte on a disk."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


@pytest.mark.parametrize("where", ["--inline", "on Ray"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [("disk full", "No space left on device"), ("run directory read-only", "Read-only file system")],
)
def test_the_disk_takes_no_more(tmp_path, tally, times, small_disk, where, fault, message):
    times(1, where == "--inline" and fault == "disk full")
    found = tally(f"{fault}, {where.strip('-')}")
    spec = write_sweep(tmp_path, texts=14, recipe={"step_seconds": 0.05, "steps": 8, "slots": 4})
    run = small_disk / "run"
    options = ["--inline"] if where == "--inline" else []
    witness = Witness(run, found)
    process = begin("run", spec, "--run-dir", run, *options)
    wait_until(lambda: num_row_files(run) > 2, process)
    if fault == "disk full":
        fill(small_disk)
    else:
        remount(small_disk, "ro")
    started = time.monotonic()
    printed = end(process)
    assert process.returncode == 1, printed
    assert message in printed
    assert "What is on disk is kept; `capsweep resume`" in printed
    assert "Traceback" not in printed
    found.provoked += 1
    found.notes.append(f"ended after {time.monotonic() - started:.0f} s")
    witness.look()
    if fault == "disk full":
        (small_disk / "filler").unlink()
    else:
        remount(small_disk, "rw")
    to_end("resume", run, *options)
    witness.conclude()
    assert not differences(searches_of(run), undisturbed(spec, tmp_path / "whole"))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "flipped byte": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
}


def test_files_of_rows_are_damaged(tmp_path, tally, times):
    each = times(4, 0)
    found = tally("row files truncated, emptied, a byte flipped")
    spec = write_sweep(tmp_path, texts=30, recipe={"steps": 8, "slots": 4})
    run = tmp_path / "run"
    to_end("run", spec, "--inline", "--run-dir", run)
    whole = searches_of(run)
    choose = random.Random(0)
    for _ in range(each):
        witness = Witness(run, found)
        witness.look()
        hit = choose.sample(sorted((run / "probes").iterdir()), len(DAMAGES))
        for path, damage in zip(hit, DAMAGES.values(), strict=True):
            witness.give_up(f"probes/{path.name}")
            path.write_bytes(damage(path.read_bytes()))
            found.provoked += 1
        output = "".join(to_end("resume", run, "--inline").split())
        assert all(path.name in output and (run / "damaged" / path.name).is_file() for path in hit)
        witness.conclude()
        assert not differences(searches_of(run), whole)
    found.notes.append("each named and set aside, its probes run again, the same table")


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_two_processes_resume_one_run(tmp_path, tally, times, objects, monkeypatch, where):
    races = times(3, 0)
    found = tally(f"two processes resume one run, {where}")
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    spec = write_sweep(tmp_path, texts=80 + 60 * races)
    run = tmp_path / "run" if where == "folder" else f"s3://runs/{tmp_path.name}"
    witness = Witness(run, found)
    refused = 0
    for _ in range(races):
        first = begin("run", spec, "--inline", "--run-dir", run)
        files = open_files(str(run))
        before = set(files.names("probes", suffix=".parquet"))
        wait_until(lambda files=files, before=before: set(files.names("probes", suffix=".parquet")) - before, first)
        # The lock names a process that is gone: both may take it, and one does.
        first.kill()
        first.wait()
        both = [begin("run", spec, "--inline", "--run-dir", run) for _ in range(2)]
        wait_until(lambda both=both: any(process.poll() is not None for process in both), awaited="one is refused")
        ended = [process for process in both if process.poll() is not None]
        assert len(ended) == 1, [process.poll() for process in both]
        output = end(ended[0])
        assert ended[0].returncode == 2
        (winner,) = [process for process in both if process not in ended]
        assert f"another session writes here: process {winner.pid} on" in " ".join(output.split())
        refused += 1
        winner.kill()
        winner.wait()
        found.provoked += 1
        witness.look()
    to_end("resume", run, "--inline")
    witness.conclude()
    found.notes.append(f"{refused} refused, with host and pid of the other")


def test_a_frozen_session_is_taken_over(tmp_path, tally, times):
    freezes = times(3, 1)
    found = tally("an orphan wakes up in a run that was taken over")
    # Slow enough that none ends before it is hit, on a busy machine too.
    spec = write_sweep(tmp_path, texts=10 + 10 * freezes, recipe={"step_seconds": 0.05, "steps": 8, "slots": 4})
    run = tmp_path / "run"
    witness = Witness(run, found)
    orphan = begin("run", spec, "--inline", "--run-dir", run)
    for _ in range(freezes):
        before = num_row_files(run)
        wait_until(lambda before=before: num_row_files(run) > before + 2, orphan)
        orphan.send_signal(signal.SIGSTOP)
        follower = begin("resume", run, "--inline", "--take-over")
        wait_until(lambda before=before: num_row_files(run) > before + 6, follower)
        orphan.send_signal(signal.SIGCONT)
        output = end(orphan)
        assert orphan.returncode == 1
        assert "has lost this run; its rows are not written" in " ".join(output.split())
        found.provoked += 1
        witness.look()
        orphan = follower
    end(orphan)
    witness.conclude()
    found.notes.append("it ends and reports why; nothing of it is written")


def test_the_store_is_slow(tmp_path, tally, times, objects, monkeypatch):
    times(1, 0)
    found = tally("a store that does not answer for 12 s")
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    spec = write_sweep(tmp_path, texts=30)
    run = f"s3://runs/{tmp_path.name}"
    witness = Witness(run, found)
    process = begin("run", spec, "--inline", "--run-dir", run)
    time.sleep(5)
    server = int(objects["MOTO_PID"])
    os.kill(server, signal.SIGSTOP)
    time.sleep(12)
    os.kill(server, signal.SIGCONT)
    found.provoked += 1
    output = end(process)
    assert process.returncode == 0, output
    witness.conclude()


JUMPING = """
import sys, time
real, started = time.time, time.time()
def jumping():
    ago = real() - started
    return real() + (86400 if 10 < ago < 12 else -86400 if ago >= 12 else 0)
time.time = jumping
from orchestrator.cli.app import main
sys.exit(main())
"""
"""The command, with a clock that is a day ahead after ten seconds, and a day behind after twelve."""


def test_the_clock_jumps(tmp_path, tally, times, stories_sweep):
    times(1, 0)
    found = tally("the clock jumps a day ahead, then two back")
    spec = stories_sweep(texts=6, engines={"snapshot_seconds": 1})
    run = tmp_path / "run"
    witness = Witness(run, found)
    started = time.monotonic()
    command = [sys.executable, "-c", JUMPING, "run", str(spec), "--inline", "--run-dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until((run / "sweep.yaml").exists, process)
    time.sleep(max(1.0, 13 - (time.monotonic() - started)))
    assert process.poll() is None
    found.provoked += 2
    # A heartbeat of yesterday still beats.
    assert "another session writes here" in to_end("resume", run, "--inline", code=2)
    output = end(process)
    assert process.returncode == 0, output
    witness.conclude()
    took = time.monotonic() - started
    seconds = sum(orchestrator.read(str(run)).searches["seconds"].to_pylist())
    assert seconds <= took
    found.notes.append("durations correct, the lock kept")


def test_models_and_texts_change(tmp_path, tally, times, stories_sweep, stories_model):
    times(1, 0)
    found = tally("model or text changed between run and resume")
    model = tmp_path / "model"
    shutil.copytree(stories_model, model)
    spec = stories_sweep(texts=2, models=[str(model)], search={"retries": 0}, recipe={"steps": 30})
    run = tmp_path / "run"
    to_end("run", spec, "--inline", "--run-dir", run)
    weights, text = model / "model.safetensors", tmp_path / "stories.jsonl"
    for path, place, what in ((weights, -20, "model"), (text, 20, "text")):
        before = path.read_bytes()
        changed = bytearray(before)
        changed[place] ^= 1
        path.write_bytes(changed)
        output = to_end("resume", run, "--inline", code=2)
        assert re.search(rf"{what} .*has changed since .*: \w+ [0-9a-f]{{16}} then, [0-9a-f]{{16}} now", output), output
        path.write_bytes(before)
        found.provoked += 1
    to_end("resume", run, "--inline")
    found.notes.append("refused, naming the hash")


def test_rows_of_another_version(tmp_path, tally, times):
    times(1, 1)
    found = tally("run directory of another schema")
    spec = write_sweep(tmp_path, texts=2, recipe={"steps": 2})
    run = tmp_path / "run"
    to_end("run", spec, "--inline", "--run-dir", run)
    other = pa.table({"probe_id": ["a"]}).replace_schema_metadata({"capsweep_schema_version": "99"})
    pq.write_table(other, run / "probes" / "later-000000.parquet")
    assert "written by another version of capsweep (schema 99" in to_end("resume", run, "--inline", code=2)
    found.provoked += 1
    found.notes.append("refused")


def test_ten_thousand_rows_are_resumed(tmp_path, tally, times):
    texts = times(3400, 0)
    found = tally("resume with 10,000 rows on disk")
    spec = write_sweep(tmp_path, texts=texts, recipe={"steps": 1, "slots": 64})
    run = tmp_path / "run"
    to_end("run", spec, "--inline", "--run-dir", run)
    newest = max((run / "probes").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    witness = Witness(run, found)
    witness.look()
    before = num_row_files(run)
    process = begin("resume", run, "--inline")
    started = time.monotonic()
    wait_until(lambda: num_row_files(run) > before, process)
    took = time.monotonic() - started
    end(process)
    assert process.returncode == 0
    found.provoked += 1
    witness.conclude()
    assert witness.num_finished >= 10_000
    found.notes.append(f"{witness.num_finished:,} rows; {took:.1f} s from the command to the first new row")


def test_a_run_is_watched_while_files_are_merged(tmp_path, tally, times):
    times(1, 0)
    found = tally("readers while small files are merged")
    spec = write_sweep(tmp_path, texts=300, recipe={"step_seconds": 0.05, "steps": 2, "slots": 4})
    run = tmp_path / "run"
    witness = Witness(run, found)
    process = begin("run", spec, "--inline", "--run-dir", run)
    wait_until(lambda: num_row_files(run) > 3, process)
    seen: list[int] = []

    def read() -> None:
        while process.poll() is None:
            seen.append(orchestrator.read(str(run)).probes.num_rows)

    reader = threading.Thread(target=read)
    reader.start()
    end(process)
    reader.join()
    assert process.returncode == 0
    assert seen == sorted(seen)
    found.provoked += len(seen)
    witness.conclude()
    found.notes.append(f"{num_row_files(run)} files left")
