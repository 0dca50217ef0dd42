"""The driver is killed at random moments, or asked to stop: what is on disk stays, and nothing runs twice."""

import contextlib
import os
import pty
import signal
import subprocess
import threading
import time
from statistics import fmean, stdev

import pytest

from tests.chaos.harness import (
    KILL,
    Witness,
    begin,
    capsweep,
    differences,
    end,
    kill_at_random,
    num_row_files,
    searches_of,
    slot_steps,
    steps_on_disk,
    to_end,
    undisturbed,
    wait_until,
    write_sweep,
)


def test_a_driver_in_one_process_is_killed(tmp_path, tally, times):
    kills = times(20, 0)
    found = tally("SIGKILL of the driver, toy, one process")
    spec = write_sweep(tmp_path, texts=15 + 12 * kills)
    run = tmp_path / "run"
    witness = kill_at_random(spec, run, "--inline", kills=kills, between=(0.3, 5.5), tally=found)
    assert not differences(searches_of(run), undisturbed(spec, tmp_path / "whole"))
    found.notes.append(f"{witness.num_finished} probes, the table of an uninterrupted run")


def test_a_driver_on_ray_is_killed(tmp_path, tally, times):
    kills = times(5, 1)
    found = tally("SIGKILL of the driver, toy, on Ray")
    spec = write_sweep(tmp_path, texts=10 + 15 * kills, engines={"snapshot_seconds": 1})
    run = tmp_path / "run"
    witness = kill_at_random(spec, run, kills=kills, between=(4, 12), tally=found)
    assert not differences(searches_of(run), undisturbed(spec, tmp_path / "whole"))
    found.notes.append(f"{witness.num_finished} probes, the table of an uninterrupted run")


def test_a_driver_on_an_object_store_is_killed(tmp_path, tally, times, objects, monkeypatch):
    kills = times(10, 1)
    found = tally("SIGKILL of the driver, toy, object store")
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    spec = write_sweep(tmp_path, texts=15 + 18 * kills)
    run = f"s3://runs/{tmp_path.name}"
    witness = kill_at_random(spec, run, "--inline", kills=kills, between=(1.5, 7), tally=found)
    assert not differences(searches_of(run), undisturbed(spec, tmp_path / "whole"))
    found.notes.append(f"{witness.num_finished} probes, the table of an uninterrupted run")


def test_the_real_engine_is_killed(tmp_path, tally, times, stories_sweep):
    kills = times(5, 0)
    found = tally("SIGKILL of the driver, stories260K")
    run = tmp_path / "run"
    spec = stories_sweep(texts=12, engines={"snapshot_seconds": 1})
    kill_at_random(spec, run, "--inline", kills=kills, between=(4, 14), tally=found)
    assert "exact, 0 not" in to_end("verify", run)
    tokens = [row["capacity_tokens"] for row in searches_of(run)]
    found.notes.append(f"every memory verified, {fmean(tokens):.1f} tokens")
    others: list[list[int]] = []
    for seed in (0, 1):
        other = stories_sweep(texts=12, name=f"seed{seed}", seeds=[seed])
        to_end("run", other, "--inline", "--run-dir", tmp_path / f"whole{seed}")
        rows = sorted(searches_of(tmp_path / f"whole{seed}"), key=lambda row: row["sample_id"])
        others.append([row["capacity_tokens"] for row in rows])
    means = [fmean(other) for other in others]
    # The spread of a mean over these texts, from the differences of two runs of each of them.
    spread = stdev(a - b for a, b in zip(*others, strict=True)) / len(tokens) ** 0.5
    found.notes.append(f"uninterrupted {means[0]:.1f} and {means[1]:.1f}, spread of their difference {spread:.1f}")
    assert abs(fmean(tokens) - fmean(means)) <= 2 * spread


def test_the_real_engine_is_killed_and_continues_bit_by_bit(tmp_path, tally, times, stories_sweep):
    kills = times(3, 0)
    found = tally("SIGKILL of the driver, stories260K, deterministic")
    run = tmp_path / "run"
    fields = {"search": {"retries": 1}, "recipe": {"steps": 150, "patience": 60}}
    spec = stories_sweep(texts=4, engines={"snapshot_seconds": 1, "deterministic": True}, **fields)
    kill_at_random(spec, run, "--inline", kills=kills, between=(5, 12), tally=found)
    to_end("run", spec, "--inline", "--run-dir", tmp_path / "whole")
    assert not differences(searches_of(run), searches_of(tmp_path / "whole"))
    found.notes.append("the table of an uninterrupted run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, KILL])
def test_probes_in_flight_continue_at_their_step(tmp_path, tally, times, number):
    times(1, number != signal.SIGINT)
    found = tally(f"{signal.Signals(number).name}: probes in flight continue at their step")
    spec = write_sweep(
        tmp_path,
        texts=6,
        search={"retries": 1},
        recipe={"step_seconds": 0.02, "steps": 100, "slots": 6},
        engines={"snapshot_seconds": 60 if number != KILL else 0.3},
    )
    run = tmp_path / "run"
    witness = Witness(run, found)
    process = begin("run", spec, "--inline", "--run-dir", run)
    wait_until(lambda: num_row_files(run), process)
    time.sleep(0.8)  # into the steps of the next probes
    process.send_signal(number)
    output = end(process)
    if number != KILL:
        assert process.returncode == 130
        assert f"`capsweep resume {run}` continues" in " ".join(output.split())
    found.provoked += 1
    witness.look()
    before = steps_on_disk(run)
    resumed = to_end("resume", run, "--inline")
    witness.conclude()
    probes = witness.num_finished
    # Each probe of this toy takes 100 steps, whoever takes them.
    again = before + slot_steps(resumed) - 100 * probes
    found.notes.append(f"{before} of {100 * probes} steps were on disk, {again} of them taken again")
    assert again == 0


@pytest.mark.parametrize("where", ["--inline", "on Ray"])
def test_the_connection_drops(tmp_path, tally, times, where):
    times(1, where == "--inline")
    found = tally(f"the terminal goes away, {where.strip('-')}: probes in flight continue at their step")
    fields = {"recipe": {"step_seconds": 0.05, "steps": 40, "slots": 6}, "engines": {"count": 1}}
    spec = write_sweep(tmp_path, texts=12, **fields)
    run, options = tmp_path / "run", ["--inline"] if where == "--inline" else []
    witness = Witness(run, found)
    keyboard, screen = pty.openpty()
    # The leader of a session gets the first terminal that it opens, and the signal when that goes away.
    attached = ["sh", "-c", f'exec <>{os.ttyname(screen)} >&0 2>&0; exec "$@"', "sh"]
    command = [*attached, *capsweep("run", spec, "--run-dir", run, *options)]
    process = subprocess.Popen(command, start_new_session=True, text=True)
    threading.Thread(target=read_all, args=(keyboard,), daemon=True).start()
    wait_until(lambda: num_row_files(run), process)
    os.close(keyboard)
    process.wait(timeout=120)
    os.close(screen)
    found.provoked += 1
    witness.look()
    before = steps_on_disk(run)
    resumed = to_end("resume", run, *options)
    witness.conclude()
    again = before + slot_steps(resumed) - 40 * witness.num_finished
    found.notes.append(f"exit code {process.returncode}, {again} steps taken again")
    assert not (run / "lock").exists()
    assert again == 0


def read_all(terminal: int) -> None:
    """Keep a terminal's buffer from filling up, until it is closed."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_a_driver_on_ray_is_asked_to_stop(tmp_path, tally, times):
    times(1, 0)
    found = tally("SIGTERM on Ray: probes in flight continue at their step")
    fields = {"recipe": {"step_seconds": 0.05, "steps": 40, "slots": 6}, "engines": {"count": 1}}
    spec = write_sweep(tmp_path, texts=12, **fields)
    run = tmp_path / "run"
    witness = Witness(run, found)
    process = begin("run", spec, "--run-dir", run)
    wait_until(lambda: num_row_files(run), process)
    process.terminate()
    output = end(process)
    assert process.returncode == 130, output
    found.provoked += 1
    witness.look()
    before = steps_on_disk(run)
    resumed = to_end("resume", run)
    witness.conclude()
    again = before + slot_steps(resumed) - 40 * witness.num_finished
    found.notes.append(f"{before} of {40 * witness.num_finished} steps were on disk, {again} of them taken again")
    assert again == 0
