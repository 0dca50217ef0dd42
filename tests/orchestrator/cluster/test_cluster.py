"""Sweeps through Ray Tune: the same answers as in one process, whatever is lost on the way."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

import orchestrator
from orchestrator.cluster.probe_trial import name_of
from orchestrator.cluster.runner import run_on_ray
from orchestrator.inline import run_inline
from orchestrator.plan import Plan, make_plan
from orchestrator.session import Session, open_session
from orchestrator.spec import load_sweep
from orchestrator.stop import Stop


def run_plan(plan: Plan, run: Path, executor: Callable[[Session], Any]) -> list[dict[str, Any]]:
    with open_session(plan, str(run)) as session:
        executor(session)
        session.finish()
    table = orchestrator.read(str(run)).searches.drop_columns(["seconds"])
    return sorted(table.to_pylist(), key=lambda row: row["search_id"])


def on_ray(session: Session, *, stop: Stop) -> None:
    sweep = session.plan.sweep
    run_on_ray(
        session,
        sweep.engines,
        sweep.engine_settings(),
        address=None,
        stop=stop,
        on_verdicts=lambda verdicts: None,
        on_engines=lambda lines: None,
        on_message=lambda message: None,
    )


def to_the_end(session: Session) -> None:
    on_ray(session, stop=Stop())


def inline(session: Session) -> None:
    run_inline(session, session.plan.sweep.engine_settings(), stop=Stop(), on_verdicts=lambda verdicts: None)


def verdicts_per_probe(run: Path) -> Counter[str]:
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome"]).to_pylist()
    return Counter(row["probe_id"] for row in rows if row["outcome"] != "failed")


def named_actors() -> list[Any]:
    """Names of the actors that live; one that is killed keeps its name for a moment."""
    deadline = time.monotonic() + 10
    while (names := ray.util.list_named_actors()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return names


def is_ours(pid: int) -> bool:
    """Whether a process descends from this one: others may run Ray here, too."""
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


def processes(*titles: bytes) -> list[int]:
    """Processes of this test's Ray whose title contains one of these."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command_line = process.read_bytes()
            if any(title in command_line for title in titles) and is_ours(int(process.parent.name)):
                found.append(int(process.parent.name))
    return found


def stepping_trials() -> list[int]:
    return processes(b"ProbeTrial.step", b"ProbeTrial.train")


def engine_processes() -> list[int]:
    return processes(b"ray::EngineActor")


@pytest.fixture
def later() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs something beside the test."""
    threads: list[threading.Thread] = []

    def begin(what: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=what, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(timeout=60)


def test_ray_and_one_process_give_the_same_table(local_ray, toy_sweep, tmp_path):
    plan = make_plan(load_sweep(toy_sweep))
    assert run_plan(plan, tmp_path / "ray", to_the_end) == run_plan(plan, tmp_path / "inline", inline)


def test_a_trial_of_one_probe_is_one_optimization_task(local_ray, toy_sweep, tmp_path):
    toy_sweep.write_text(toy_sweep.read_text() + "engines: {probes_per_trial: 1}\n")
    plan = make_plan(load_sweep(toy_sweep))
    rows = run_plan(plan, tmp_path / "ray", to_the_end)
    assert {row["status"] for row in rows} == {"measured"}


def test_several_models_share_a_cluster(local_ray, toy_sweep, tmp_path):
    text = toy_sweep.read_text().replace("[toy/model]", "[toy/model, toy/other]")
    toy_sweep.write_text(text + "num_vectors: [1, 2]\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert Counter(row["model"] for row in rows) == {"toy/model": 24, "toy/other": 24}
    assert {row["status"] for row in rows} == {"measured"}


def test_a_stopped_run_leaves_no_actor_and_resumes(local_ray, toy_sweep, tmp_path, later):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {step_seconds: 0.05, slots: 4}\n")
    plan = make_plan(load_sweep(toy_sweep))
    run, stop = tmp_path / "ray", Stop()

    def interrupt() -> None:
        while not list((run / "probes").glob("*.parquet")):
            time.sleep(0.02)
        stop.interrupted = True

    later(interrupt)
    cut = run_plan(plan, run, lambda session: on_ray(session, stop=stop))
    assert any(row["status"] == "open" for row in cut)
    before = verdicts_per_probe(run)
    assert before
    # What was in flight is saved, and continues where it was.
    assert list((run / "snapshots").glob("*.parquet"))
    assert not named_actors()
    assert run_plan(plan, run, to_the_end) == run_plan(plan, tmp_path / "inline", inline)
    assert set(verdicts_per_probe(run).values()) == {1}
    assert before.keys() <= verdicts_per_probe(run).keys()
    assert not list((run / "snapshots").glob("*.parquet"))


def test_a_killed_trial_worker_is_no_statement_about_the_model(local_ray, toy_sweep, tmp_path, later):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {step_seconds: 0.02, slots: 4}\n")
    plan = make_plan(load_sweep(toy_sweep))
    run = tmp_path / "ray"
    killed: list[int] = []
    later(lambda: signal_one(stepping_trials, run, signal.SIGKILL, killed))
    rows = run_plan(plan, run, to_the_end)
    assert killed
    # Another trial follows the assignment, whose probes continued in their engine: nothing failed, nothing ran again.
    assert rows == run_plan(plan, tmp_path / "inline", inline)
    assert set(verdicts_per_probe(run).values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engine_that_is_killed_or_hangs_is_replaced(local_ray, toy_sweep, tmp_path, later, number):
    toy_sweep.write_text(
        toy_sweep.read_text()
        + "recipe: {step_seconds: 0.02, slots: 4}\nengines: {stall_seconds: 3, snapshot_seconds: 0.2}\n"
    )
    plan = make_plan(load_sweep(toy_sweep))
    run = tmp_path / "ray"
    hit: list[int] = []
    later(lambda: signal_one(engine_processes, run, number, hit))
    rows = run_plan(plan, run, to_the_end)
    assert hit
    assert {row["status"] for row in rows} == {"measured"}
    assert set(verdicts_per_probe(run).values()) == {1}
    expected = run_plan(plan, tmp_path / "inline", inline)
    found = {row["search_id"]: row["capacity_tokens"] for row in rows}
    assert found == {row["search_id"]: row["capacity_tokens"] for row in expected}
    lost = [row for row in orchestrator.read(str(run)).probes.to_pylist() if row["outcome"] == "failed"]
    assert lost
    assert all("its engine was lost" in row["reason"] for row in lost)


def signal_one(find: Callable[[], list[int]], run: Path, number: int, hit: list[int]) -> None:
    """Send a signal to one process, once the run has rows."""
    deadline = time.monotonic() + 60
    while not hit and time.monotonic() < deadline:
        if list((run / "probes").glob("*.parquet")):
            for pid in find()[:1]:
                os.kill(pid, number)
                hit.append(pid)
        time.sleep(0.02)


def test_a_machine_that_always_fails_ends_the_searches(local_ray, toy_sweep, tmp_path):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {machine_failures: 3}\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert {(row["status"], row["capacity_tokens"]) for row in rows} == {("failed", None)}


def test_nothing_that_was_started_is_left(local_ray):
    assert ray.is_initialized()
    assert not named_actors()


def test_an_engine_that_cannot_load_its_model_reports_why(local_ray, toy_sweep, tmp_path, monkeypatch):
    plan = make_plan(load_sweep(toy_sweep))
    # Found only when the weights are read: the toy refuses a recipe that was changed after the plan was made.
    broken = dataclasses.replace(plan, question=dataclasses.replace(plan.question, recipe={"slots": 0}))
    with pytest.raises(ValueError, match="slots"):
        run_plan(broken, tmp_path / "ray", to_the_end)
    assert not named_actors()


def test_a_trial_is_called_by_what_it_does():
    config = {"number": 12, "model": "EleutherAI/pythia-160m", "lengths": [180, 220, 200]}
    assert name_of(config) == "trial 12 · pythia-160m · 3 probes of 180-220 tokens"
    assert name_of({**config, "lengths": [8]}) == "trial 12 · pythia-160m · 1 probe of 8 tokens"


def test_what_a_run_exports_can_be_scraped(local_ray, toy_sweep, tmp_path, later):
    # A name of its own: what other runs of this Ray have exported is still there.
    text = toy_sweep.read_text().replace("name: toy", "name: scraped")
    toy_sweep.write_text(text + "recipe: {step_seconds: 0.1, slots: 4, steps: 40}\n")
    seen: dict[str, dict[str, float]] = {}
    later(lambda: seen.update(scraped_until(["capsweep_verdicts", "capsweep_slots_busy", "capsweep_tokens"])))
    stop = Stop()
    later(lambda: stop_when(stop, lambda: bool(seen)))
    run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", lambda session: on_ray(session, stop=stop))
    assert seen["capsweep_searches"].keys() == {"done", "in_flight", "waiting"}
    assert sum(seen["capsweep_searches"].values()) == 12
    assert seen["capsweep_slots"] == {"": 4.0}
    assert 0 < seen["capsweep_slots_busy"][""] <= 4
    assert seen["capsweep_engine_restarts"] == {"": 0.0}


def scraped_until(names: list[str], seconds: float = 90) -> dict[str, dict[str, float]]:
    """Our metrics as a Prometheus reads them, by name and by outcome or state, once all of these are there."""
    deadline = time.monotonic() + seconds
    found: dict[str, dict[str, float]] = {}
    while not set(names) <= found.keys() and time.monotonic() < deadline:
        time.sleep(0.5)
        port = ray.nodes()[0]["MetricsExportPort"]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            for family in text_string_to_metric_families(reply.read().decode()):
                ours = [sample for sample in family.samples if sample.labels.get("run") == "scraped"]
                if ours:
                    found[family.name.removeprefix("ray_")] = {
                        sample.labels.get("outcome", sample.labels.get("state", "")): sample.value for sample in ours
                    }
    return found


def stop_when(stop: Stop, when: Callable[[], bool]) -> None:
    while not when() and not stop:
        time.sleep(0.1)
    stop.interrupt()
