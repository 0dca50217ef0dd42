"""Whole runs of the toy task, whose capacities are known: begun, interrupted, killed, resumed."""

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

import orchestrator
from orchestrator.run_directory import open_run
from tasks.toy import toy_capacity

SLOW = "recipe: {step_seconds: 0.02, steps: 8, slots: 4}\n"
"""Slow enough to be interrupted, and the same probes whatever finished first."""


@pytest.fixture
def slow_sweep(toy_sweep: Path) -> Path:
    toy_sweep.write_text(toy_sweep.read_text() + SLOW)
    return toy_sweep


def wait_for_rows(run: Path, process, at_least: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((run / "probes").glob("*.parquet"))) < at_least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no rows appeared"
        time.sleep(0.02)


def verdicts_per_probe(run: Path) -> Counter[str]:
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome"]).to_pylist()
    return Counter(row["probe_id"] for row in rows if row["outcome"] != "failed")


def test_a_run_finds_the_known_capacities(toy_sweep, tmp_path, run_to_end, searches_of):
    run = tmp_path / "run"
    ended = run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    assert ended.returncode == 0, ended.stderr
    opened = open_run(str(run))
    for row in searches_of(run):
        known = toy_capacity(opened.sample(row["model"], row["sample_id"])["tokens"])
        # The toy stays up to two tokens short of a text's capacity, and a search starts three times.
        assert known - 2 <= row["capacity_tokens"] <= known
        assert row["status"] == "measured"
    assert (run / "report" / "index.html").is_file()
    assert "report:" in ended.stdout
    assert not (run / "lock").exists()


def test_running_a_finished_run_again_asks_nothing(toy_sweep, tmp_path, run_to_end, searches_of):
    run = tmp_path / "run"
    run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    before, files = searches_of(run), sorted((run / "probes").iterdir())
    again = run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    assert again.returncode == 0
    assert searches_of(run) == before
    assert sorted((run / "probes").iterdir()) == files


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_resumes_to_the_same_table(slow_sweep, tmp_path, start, run_to_end, searches_of, how, code):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_to_end("run", slow_sweep, "--inline", "--run-dir", whole).returncode == 0
    process = start("run", slow_sweep, "--inline", "--run-dir", cut)
    wait_for_rows(cut, process, at_least=2)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    if code == 130:
        assert "capsweep resume" in output
    before = verdicts_per_probe(cut)
    assert 0 < len(before) < len(verdicts_per_probe(whole))
    resumed = run_to_end("resume", cut, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(cut) == searches_of(whole)
    assert set(verdicts_per_probe(cut).values()) == {1}
    assert before.keys() <= verdicts_per_probe(cut).keys()


def test_a_spent_budget_leaves_searches_open(slow_sweep, tmp_path, run_to_end, searches_of):
    slow_sweep.write_text(slow_sweep.read_text() + "budget: {minutes: 0.01}\n")
    run = tmp_path / "run"
    ended = run_to_end("run", slow_sweep, "--inline", "--run-dir", run)
    assert ended.returncode == 3
    assert "budget is spent" in ended.stdout
    assert any(row["status"] == "open" for row in searches_of(run))


def test_the_machine_may_fail_twice(toy_sweep, tmp_path, run_to_end, searches_of):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {machine_failures: 2}\n")
    run = tmp_path / "run"
    assert run_to_end("run", toy_sweep, "--inline", "--run-dir", run).returncode == 0
    assert {row["status"] for row in searches_of(run)} == {"measured"}
    outcomes = Counter(orchestrator.read(str(run)).probes["outcome"].to_pylist())
    assert outcomes["failed"] == 2 * (outcomes["lossless"] + outcomes["lossy"])


def test_a_search_that_the_machine_always_fails_is_failed_with_a_reason(toy_sweep, tmp_path, run_to_end, searches_of):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {machine_failures: 3}\n")
    run = tmp_path / "run"
    assert run_to_end("run", toy_sweep, "--inline", "--run-dir", run).returncode == 1
    assert {(row["status"], row["capacity_tokens"]) for row in searches_of(run)} == {("failed", None)}
    assert "the recipe of the toy asks for a failure" in run_to_end("status", run).stdout
    assert "0 open" in run_to_end("resume", run, "--inline").stdout
    again = run_to_end("resume", run, "--inline", "--retry-failed")
    assert again.returncode == 1, again.stderr
    retried = orchestrator.read(str(run)).probes.filter(pc.field("outcome") != "failed")
    assert set(retried["attempt"].to_pylist()) == {3}
    assert len(retried) == 12


def test_a_second_session_is_refused_and_a_stale_lock_is_not(slow_sweep, tmp_path, start, run_to_end):
    run = tmp_path / "run"
    process = start("run", slow_sweep, "--inline", "--run-dir", run)
    wait_for_rows(run, process, at_least=1)
    second = run_to_end("resume", run, "--inline")
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr
    process.kill()
    process.wait()
    assert json.loads((run / "lock").read_text())["pid"] == process.pid
    assert run_to_end("resume", run, "--inline").returncode == 0


def test_verify_decode_and_export_read_the_stored_memories(toy_sweep, tmp_path, run_to_end, searches_of):
    run = tmp_path / "run"
    run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    verified = run_to_end("verify", run)
    assert verified.returncode == 0
    assert verified.stdout.endswith("exact, 0 not\n")
    search = searches_of(run)[0]
    text = open_run(str(run)).sample(search["model"], search["sample_id"])["text"]
    decoded = run_to_end("decode", run, search["search_id"])
    assert decoded.stdout == text[: search["capacity_tokens"]] + "\n"
    exported = run_to_end("export", run, "--to", tmp_path / "memories")
    assert "12 memories" in exported.stdout
    assert (tmp_path / "memories" / "memories.safetensors").is_file()


def test_a_memory_that_does_not_give_its_text_back_is_reported(toy_sweep, tmp_path, run_to_end, monkeypatch):
    from orchestrator import memories

    run = tmp_path / "run"
    run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    monkeypatch.setattr("tasks.toy.struct.unpack", lambda form, content: (3.0,))
    found = list(memories.verify(open_run(str(run))))
    assert any(item.proof.exact_prefix < item.claimed for item in found)


def test_changed_texts_are_refused(toy_sweep, tmp_path, run_to_end):
    run = tmp_path / "run"
    run_to_end("run", toy_sweep, "--inline", "--run-dir", run)
    (toy_sweep.parent / "texts" / "03.txt").write_text("Something else altogether, since the run began.")
    refused = run_to_end("resume", run, "--inline")
    assert refused.returncode == 2
    assert re.search(r"text files:03.txt has changed .* hash \w{16} then, \w{16} now", refused.stderr)
