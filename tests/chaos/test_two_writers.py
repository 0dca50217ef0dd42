"""Sessions that meet in one run, wherever they are frozen and whatever they can see of each other."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.files import open_files
from tests.chaos.harness import Tally, Witness, begin, capsweep, end, num_row_files, to_end, wait_until, write_sweep

NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def freeze(what: str, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What tests/chaos/freezing.py found."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.chaos.freezing", what, str(folder), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    for one in found:
        assert one["changed"] == [], f"changed by a session that had lost its run: {one}"
        assert one["other"] == 0, f"the rightful session was disturbed: {one}"
        assert "Traceback" not in one["said"], one
    return found


@pytest.mark.parametrize("what", ["locks", "linked"])
def test_a_session_is_frozen_whenever_it_touches_a_file(tmp_path, tally, times, what):
    whole = times(1, 0)
    found = tally("frozen before each touch of a file" + (", probes/ a link" if what == "linked" else ""))
    ends = freeze(what, tmp_path / "runs")
    found.provoked += len(ends)
    # 2: before it had claimed the run, 1: after that, 0: when it had nothing left to write.
    assert {one["code"] for one in ends} == {0, 1, 2}
    assert whole


def test_a_whole_session_is_frozen_at_random_touches(tmp_path, tally, times):
    freezes = times(24, 4)
    found = tally("a session frozen at random, taken over, woken beside the other")
    spec = write_sweep(tmp_path, texts=6, recipe={"step_seconds": 0.01, "steps": 8, "slots": 2})
    choose = random.Random(0)
    moments = [str(choose.randrange(1, 300)) for _ in range(freezes)]
    for number, one in enumerate(freeze("sessions", tmp_path / "runs", *moments, str(spec))):
        assert one["code"] in (0, 1, 2), one
        if one["code"] == 1:
            assert one["said"].count("has lost this run; its rows are not written: process") == 1, one
        found.provoked += one["frozen"]
        Witness(tmp_path / "runs" / f"run{number}", found).conclude()


FROZEN_AT_A_CALL = """
import os, signal, sys
from orchestrator.store.remote_files import RemoteFiles
number, last = [0], int(sys.argv.pop(1))
def counting(call):
    def counted(*arguments, **options):
        number[0] += 1
        if number[0] == last:
            os.kill(os.getpid(), signal.SIGSTOP)
        return call(*arguments, **options)
    return counted
for name in ("write", "create", "read", "read_all", "names", "exists", "move", "remove"):
    setattr(RemoteFiles, name, counting(getattr(RemoteFiles, name)))
from orchestrator.cli.app import main
sys.exit(main())
"""
"""The command, frozen at the how-manieth call to an object store; not between its last look and what it then sends."""


def is_stopped(process: "subprocess.Popen[str]") -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_session_is_frozen_at_its_calls_to_an_object_store(tmp_path, tally, times, objects, monkeypatch):
    freezes = times(8, 1)
    found = tally("frozen at a call to an object store")
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    spec = write_sweep(tmp_path, texts=40)
    choose = random.Random(1)
    for number in range(freezes):
        run = f"s3://runs/{tmp_path.name}/run{number}"
        witness = Witness(run, found)
        # Opening takes about 30 calls, then each file of rows and each heartbeat takes two.
        command = [sys.executable, "-c", FROZEN_AT_A_CALL, str(choose.randrange(30, 70)), *capsweep()[3:]]
        command += ["run", str(spec), "--inline", "--run-dir", run]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda first=first: is_stopped(first), first)
        second = begin("run", spec, "--inline", "--run-dir", run, "--take-over")
        files = open_files(run)
        wait_until(lambda files=files: len(files.names("sessions", suffix=".json")) == 2, second)
        time.sleep(4)
        first.send_signal(signal.SIGCONT)
        said = end(first)
        assert first.returncode == 1, said
        assert said.splitlines()[-1].count("has lost this run; its rows are not written: process") == 1
        other = end(second)
        assert second.returncode == 0, other
        found.provoked += 1
        witness.conclude()


def test_sessions_in_pid_namespaces_of_their_own(tmp_path, tally, times):
    times(1, 1)
    found = tally("sessions of one host name in several PID namespaces")
    if (made := subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)).returncode:
        pytest.skip(f"needs the right to make a PID namespace ({made.stderr.strip()})")
    # It lasts for half a minute: two sessions are refused meanwhile, and each takes seconds to begin.
    spec = write_sweep(tmp_path, texts=60, recipe={"step_seconds": 0.1, "steps": 8, "slots": 4})
    run = tmp_path / "run"
    witness = Witness(run, found)
    inside = [*NAMESPACE, *capsweep("run", spec, "--inline", "--run-dir", run)]
    first = subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: num_row_files(run) > 2, first)
    for command in (capsweep(), list(NAMESPACE) + capsweep()):
        refused = subprocess.run(
            [*command, "resume", str(run), "--inline"], capture_output=True, text=True, timeout=300
        )
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "another session writes here: process" in refused.stderr
        found.provoked += 1
    output = end(first)
    assert first.returncode == 0, output
    witness.conclude()


@pytest.mark.parametrize("where", ["folder", "object store"])
def test_runs_whose_names_are_patterns(tmp_path, tally, times, objects, monkeypatch, where):
    times(1, where == "object store")
    found = tally(f"runs whose names are patterns, killed and resumed, {where}")
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    spec = write_sweep(tmp_path, texts=30)
    root = str(tmp_path) if where == "folder" else f"s3://runs/{tmp_path.name}"
    beside = open_files(f"{root}/exp1/run")
    beside.write("lock", b"of another run")
    for place in ("exp[1]", "exp*", "exp?", "{exp}#%20 é"):
        run = f"{root}/{place}/run"
        witness = Witness(run, found)
        process = begin("run", spec, "--inline", "--run-dir", run)
        files = open_files(run)
        wait_until(lambda files=files: len(files.names("probes", suffix=".parquet")) > 3, process)
        process.kill()
        process.wait()
        witness.look()
        to_end("resume", run, "--inline")
        witness.conclude()
        found.provoked += 1
    assert beside.read("lock") == b"of another run"


def test_the_folder_is_removed_under_a_session(tmp_path, tally, times):
    times(1, 1)
    found: Tally = tally("the folder is removed, and another run begins in it")
    spec = write_sweep(tmp_path, texts=40)
    run = tmp_path / "run"
    first = begin("run", spec, "--inline", "--run-dir", run)
    wait_until(lambda: num_row_files(run) > 2, first)
    os.rename(run, tmp_path / "moved")
    second = begin("run", spec, "--inline", "--run-dir", run)
    output = end(first)
    assert first.returncode == 1, output
    assert "has lost this run" in output.splitlines()[-1]
    output = end(second)
    assert second.returncode == 0, output
    found.provoked += 1
    Witness(run, found).conclude()
