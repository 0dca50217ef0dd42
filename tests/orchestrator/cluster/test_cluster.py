"""Sweeps through Ray Tune. That Ray and one process give the same table, tests/golden shows."""

import contextlib
import dataclasses
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
from orchestrator.execution.inline import run_inline
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.runs.session import Session, open_session
from orchestrator.spec.loading import load_sweep

pytestmark = pytest.mark.xdist_group("ray")


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


def test_a_trial_of_one_probe_is_one_optimization_task(local_ray, toy_sweep, tmp_path):
    few = toy_sweep.read_text().replace("path: texts/", "path: texts/, samples: 3")
    toy_sweep.write_text(few + "engines: {probes_per_trial: 1}\nsearch: {retries: 1}\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert [row["status"] for row in rows] == ["measured"] * 3


def test_several_models_share_a_cluster(local_ray, toy_sweep, tmp_path):
    text = toy_sweep.read_text().replace("[toy/model]", "[toy/model, toy/other]")
    toy_sweep.write_text(text.replace("path: texts/", "path: texts/, samples: 4") + "num_vectors: [1, 2]\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert Counter(row["model"] for row in rows) == {"toy/model": 8, "toy/other": 8}
    assert {row["status"] for row in rows} == {"measured"}


def test_a_stopped_run_leaves_no_actor_and_resumes(local_ray, toy_sweep, tmp_path, later):
    few = toy_sweep.read_text().replace("path: texts/", "path: texts/, samples: 8") + "search: {retries: 1}\n"
    # How long a step sleeps is no part of a search's identity.
    toy_sweep.write_text(few + "recipe: {steps: 60, spread: 0.5}\n")
    quick = make_plan(load_sweep(toy_sweep))
    # One engine of two slots that end at unlike steps: when the first probe is on disk, another is on its way.
    toy_sweep.write_text(few + "recipe: {steps: 60, spread: 0.5, step_seconds: 0.03, slots: 2}\nengines: {count: 1}\n")
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
    assert run_plan(plan, run, to_the_end) == run_plan(quick, tmp_path / "inline", inline)
    assert set(verdicts_per_probe(run).values()) == {1}
    assert before.keys() <= verdicts_per_probe(run).keys()
    assert not list((run / "snapshots").glob("*.parquet"))


def test_a_machine_that_always_fails_ends_the_searches(local_ray, toy_sweep, tmp_path):
    few = toy_sweep.read_text().replace("path: texts/", "path: texts/, samples: 2")
    toy_sweep.write_text(few + "recipe: {machine_failures: 3, steps: 2}\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "ray", to_the_end)
    assert {(row["status"], row["capacity_tokens"]) for row in rows} == {("failed", None)}


def test_nothing_that_was_started_is_left(local_ray):
    assert ray.is_initialized()
    assert not named_actors()


def test_an_engine_that_cannot_load_its_model_reports_why(local_ray, toy_sweep, tmp_path, monkeypatch):
    plan = make_plan(load_sweep(toy_sweep))
    # Found only when the weights are read: the toy refuses a recipe that was changed after the plan was made.
    models = tuple(dataclasses.replace(model, recipe={"slots": 0}) for model in plan.models)
    broken = dataclasses.replace(plan, models=models)
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
