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
from orchestrator.analysis import memories
from orchestrator.runs.directory import open_run
from tasks.toy import ToyEngine, toy_capacity

SLOW = "recipe: {step_seconds: 0.05, steps: 8, slots: 4}\n"
"""Slow enough to be interrupted, and the same probes whatever finished first."""
FAST = SLOW.replace("0.05", "0")
"""The same searches."""


@pytest.fixture
def slow_sweep(toy_sweep: Path) -> Path:
    toy_sweep.write_text(toy_sweep.read_text() + SLOW)
    return toy_sweep


@pytest.fixture
def whole(slow_sweep: Path, tmp_path: Path, finished) -> Path:
    """The run of `slow_sweep` that nothing interrupts."""
    fast = tmp_path / "fast.yaml"
    fast.write_text(slow_sweep.read_text().replace(SLOW, FAST))
    return finished(fast, "whole")


def wait_for_rows(run: Path, process, at_least: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((run / "probes").glob("*.parquet"))) < at_least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no rows appeared"
        time.sleep(0.02)


def verdicts_per_probe(run: Path) -> Counter[str]:
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome"]).to_pylist()
    return Counter(row["probe_id"] for row in rows if row["outcome"] != "failed")


def test_a_run_finds_the_known_capacities(toy_sweep, tmp_path, capsweep, searches_of):
    run = tmp_path / "run"
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
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


@pytest.mark.usefixtures("no_page")
def test_running_a_finished_run_again_asks_nothing(toy_sweep, finished, capsweep, searches_of):
    run = finished(toy_sweep)
    before, files = searches_of(run), sorted((run / "probes").iterdir())
    again = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
    assert again.returncode == 0
    assert searches_of(run) == before
    assert sorted((run / "probes").iterdir()) == files


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(
    ("how", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_resumes_to_the_same_table(
    slow_sweep, whole, tmp_path, start, capsweep, searches_of, monkeypatch, how, code
):
    cut = tmp_path / "cut"
    process = start("run", slow_sweep, "--inline", "--run-dir", cut)
    wait_for_rows(cut, process, at_least=2)
    process.send_signal(signal.SIGSTOP)  # else it might end before the other has begun; one that is stopped lives
    second = capsweep("resume", cut, "--inline")
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    # 1. While it lived, no other session could write.
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr
    # 2. It left its lock if it was killed, and else the way to resume it.
    if how is signal.SIGKILL:
        assert json.loads((cut / "lock").read_text())["pid"] == process.pid
    else:
        assert "capsweep resume" in output
        assert not (cut / "lock").exists()
    before = verdicts_per_probe(cut)
    assert 0 < len(before) < len(verdicts_per_probe(whole))
    # 3. Resumed, it ends as if nothing had been.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    resumed = capsweep("resume", cut, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert searches_of(cut) == searches_of(whole)
    assert set(verdicts_per_probe(cut).values()) == {1}
    assert before.keys() <= verdicts_per_probe(cut).keys()


@pytest.mark.usefixtures("no_page")
def test_a_second_signal_is_left_to_whoever_handled_it_before(slow_sweep, tmp_path, capsweep, monkeypatch):
    reached, steps, step = list[int](), list[ToyEngine](), ToyEngine.step

    def signalled_step(engine: ToyEngine):
        steps.append(engine)
        if len(steps) == 10:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        return step(engine)

    monkeypatch.setattr(ToyEngine, "step", signalled_step)
    before = signal.signal(signal.SIGTERM, lambda number, frame: reached.append(number))
    try:
        ended = capsweep("run", slow_sweep, "--inline", "--run-dir", tmp_path / "run")
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.returncode, len(steps)) == (130, 10)
    assert "capsweep resume" in ended.stdout
    assert len(reached) == 2, "one while the session ended, one after it"


@pytest.mark.usefixtures("no_page")
def test_a_spent_budget_leaves_searches_open(slow_sweep, tmp_path, capsweep, searches_of):
    slow_sweep.write_text(slow_sweep.read_text() + "budget: {minutes: 0.01}\n")
    run = tmp_path / "run"
    ended = capsweep("run", slow_sweep, "--inline", "--run-dir", run)
    assert ended.returncode == 3
    assert "budget is spent" in ended.stdout
    assert any(row["status"] == "open" for row in searches_of(run))


@pytest.mark.usefixtures("no_page")
def test_the_machine_may_fail_twice(toy_sweep, tmp_path, capsweep, searches_of):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {machine_failures: 2}\n")
    run = tmp_path / "run"
    assert capsweep("run", toy_sweep, "--inline", "--run-dir", run).returncode == 0
    assert {row["status"] for row in searches_of(run)} == {"measured"}
    outcomes = Counter(orchestrator.read(str(run)).probes["outcome"].to_pylist())
    assert outcomes["failed"] == 2 * (outcomes["lossless"] + outcomes["lossy"])


@pytest.mark.usefixtures("no_page")
def test_a_search_that_the_machine_always_fails_is_failed_with_a_reason(toy_sweep, tmp_path, capsweep, searches_of):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {machine_failures: 3}\n")
    run = tmp_path / "run"
    assert capsweep("run", toy_sweep, "--inline", "--run-dir", run).returncode == 1
    assert {(row["status"], row["capacity_tokens"]) for row in searches_of(run)} == {("failed", None)}
    assert "the recipe of the toy asks for a failure" in capsweep("status", run).stdout
    verified = capsweep("verify", run)
    assert (verified.returncode, "no probe of this run has a verdict yet" in verified.stdout) == (0, True)
    assert "0 open" in capsweep("resume", run, "--inline").stdout
    again = capsweep("resume", run, "--inline", "--retry-failed")
    assert again.returncode == 1, again.stderr
    retried = orchestrator.read(str(run)).probes.filter(pc.field("outcome") != "failed")
    assert set(retried["attempt"].to_pylist()) == {3}
    assert len(retried) == 12


@pytest.mark.parametrize("context", ["20", "{repeat: 50}"])
def test_texts_with_a_context_are_measured_resumed_and_verified(toy_sweep, tmp_path, finished, capsweep, context):
    toy_sweep.write_text(toy_sweep.read_text() + f"context: {context}\n")
    run = finished(toy_sweep)
    opened = open_run(str(run))
    for row in orchestrator.read(str(run)).searches.to_pylist():
        sample = opened.sample(row["model"], row["sample_id"])
        assert len(sample["context"]) == row["context"] == (50 if row["repeats_context"] else 20)
        assert (sample["context"] == sample["tokens"]) == row["repeats_context"] == ("repeat" in context)
    # The texts are gone: the run has its own.
    for text in (tmp_path / "texts").iterdir():
        text.unlink()
    resumed = capsweep("resume", run, "--inline")
    assert resumed.returncode == 0, resumed.stderr
    assert capsweep("verify", run).returncode == 0


@pytest.mark.parametrize(("margin", "proves"), [(1.0, True), (1.5, False)])
def test_a_margin_is_asked_for_from_the_search_to_verify(toy_sweep, finished, capsweep, searches_of, margin, proves):
    """Tokens of the toy have a margin of 1."""
    toy_sweep.write_text(toy_sweep.read_text() + f"criterion: {{margin: {margin}}}\n")
    run = finished(toy_sweep)
    rows = searches_of(run)
    assert {row["criterion"] for row in rows} == {f"margin>={margin:g}"}
    assert {row["capacity_tokens"] > 0 for row in rows} == {proves}
    verified = capsweep("verify", run)
    assert verified.returncode == 0
    assert ("by the column exact_prefix, no memory" in verified.stdout) == (not proves)


def test_verify_decode_and_export_read_the_stored_memories(toy_sweep, tmp_path, finished, capsweep, searches_of):
    run = finished(toy_sweep)
    verified = capsweep("verify", run)
    assert verified.returncode == 0
    assert verified.stdout.endswith("exact, 0 not\n")
    search = searches_of(run)[0]
    text = open_run(str(run)).sample(search["model"], search["sample_id"])["text"]
    decoded = capsweep("decode", run, search["search_id"])
    assert decoded.stdout == text[: search["capacity_tokens"]] + "\n"
    exported = capsweep("export", run, "--to", tmp_path / "memories")
    assert "12 memories" in exported.stdout
    assert (tmp_path / "memories" / "memories.safetensors").is_file()


def test_a_memory_that_does_not_give_its_text_back_is_reported(toy_sweep, finished, monkeypatch):
    run = finished(toy_sweep)
    monkeypatch.setattr("tasks.toy.struct.unpack", lambda form, content: (3.0,))
    found = list(memories.verify(open_run(str(run))))
    assert any(item.proof.exact_prefix < item.claimed for item in found)


def test_changed_texts_are_refused(toy_sweep, finished, capsweep):
    run = finished(toy_sweep)
    (toy_sweep.parent / "texts" / "03.txt").write_text("Something else altogether, since the run began.")
    refused = capsweep("resume", run, "--inline")
    assert refused.returncode == 2
    assert re.search(r"text files:03.txt has changed .* hash \w{16} then, \w{16} now", refused.stderr)


@pytest.mark.parametrize("fault", [ValueError("a bug in a figure"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("shown", ["write_report", "searches_table"])
def test_an_error_in_showing_does_not_decide_the_exit_code(toy_sweep, tmp_path, capsweep, monkeypatch, fault, shown):
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("orchestrator.launch.write_report", lambda run, searches: "")
    monkeypatch.setattr(f"orchestrator.launch.{shown}", fail)
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")
    assert ended.returncode == 0
    assert f"({type(fault).__name__}: {fault}); `capsweep report {tmp_path / 'run'}` tries again." in ended.stdout
