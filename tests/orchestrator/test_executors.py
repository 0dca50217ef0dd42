"""What every executor owes, the one in this process and the one on Ray: one suite against both."""

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.executor import Executor, Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.search.bracket import Verdict
from orchestrator.spec.sweep_file import load_sweep

ON_RAY = pytest.mark.xdist_group("ray")
SLOW_ON_RAY = pytest.mark.parametrize(
    "executor", ["inline", pytest.param("ray", marks=[ON_RAY, pytest.mark.slow])], indirect=True
)


@pytest.fixture(params=["inline", pytest.param("ray", marks=ON_RAY)])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return InlineExecutor()
    request.getfixturevalue("local_ray")
    from orchestrator.cluster.executor import RayExecutor

    return RayExecutor(None)


def run_plan(
    plan: Plan, run: Path, executor: Executor, *, stop: Stop | None = None, watcher: Watcher | None = None
) -> list[dict[str, Any]]:
    """Rows of the searches table, by search."""
    with open_session(plan, str(run)) as session:
        # A stop that nobody asked for yet is false.
        executor.run(session, stop=Stop() if stop is None else stop, watcher=watcher or Watcher())
        session.finish()
    table = orchestrator.read(str(run)).searches.drop_columns(["seconds"])
    return sorted(table.to_pylist(), key=lambda row: row["search_id"])


def verdicts_on_disk(run: Path) -> Counter[str]:
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome"]).to_pylist()
    return Counter(row["probe_id"] for row in rows if row["outcome"] != "failed")


def with_texts(toy_sweep: Path, count: int, more: str = "") -> Path:
    """The sweep over the first so many texts, with more lines; they may name other models."""
    text = toy_sweep.read_text().replace("path: texts/", f"path: texts/, samples: {count}")
    toy_sweep.write_text(text + more)
    return toy_sweep


class Noting(Watcher):
    """Remembers what it was told, and whether the rows of each verdict were on disk by then."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.verdicts: list[Verdict] = []
        self.missing: set[str] = set()
        self.engines: list[EngineProgress] = []

    def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts += verdicts
        self.missing |= {verdict.probe_id for verdict in verdicts} - verdicts_on_disk(self.run).keys()

    def show_engines(self, progress: Sequence[EngineProgress]) -> None:
        self.engines += progress


@SLOW_ON_RAY
def test_it_answers_every_search_of_every_model_and_counts_what_engines_did(executor, toy_sweep, tmp_path):
    text = with_texts(toy_sweep, 2, "num_vectors: [1, 2]\n").read_text()
    toy_sweep.write_text(text.replace("[toy/model]", "[toy/model, toy/other]"))
    plan = make_plan(load_sweep(toy_sweep))
    with open_session(plan, str(tmp_path / "run")) as session:
        stats = executor.run(session, stop=Stop(), watcher=Watcher())
        assert session.ledger.num_open == 0
        session.finish()
    rows = orchestrator.read(str(tmp_path / "run")).searches.to_pylist()
    assert Counter(row["model"] for row in rows) == {"toy/model": 4, "toy/other": 4}
    assert {row["status"] for row in rows} == {"measured"}
    assert stats.slot_steps == sum(row["steps"] for row in rows)


@SLOW_ON_RAY
def test_a_verdict_is_shown_once_its_row_is_on_disk_and_engines_are_reported(
    executor, toy_sweep, tmp_path, monkeypatch
):
    # Engines are asked at one look and have answered at the next: several times while the three probes last.
    monkeypatch.setattr("orchestrator.cluster.engine_pool.TEND_SECONDS", 0.1)
    with_texts(toy_sweep, 3, "search: {retries: 0}\nrecipe: {step_seconds: 0.1, steps: 30}\n")
    watcher = Noting(tmp_path / "run")
    run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "run", executor, watcher=watcher)
    assert Counter(verdict.probe_id for verdict in watcher.verdicts) == verdicts_on_disk(tmp_path / "run")
    assert not watcher.missing
    assert "running" in {engine.state for engine in watcher.engines}
    assert max(engine.num_busy for engine in watcher.engines) == 3


@SLOW_ON_RAY
def test_a_stopped_run_keeps_what_was_in_flight_and_resumes(executor, toy_sweep, tmp_path):
    few = with_texts(toy_sweep, 9, "search: {retries: 0}\n").read_text()
    # How long a step sleeps is no part of a search's identity.
    toy_sweep.write_text(few + "recipe: {steps: 60, spread: 0.5}\n")
    quick = make_plan(load_sweep(toy_sweep))
    # One engine of two slots that end at unlike steps, and that has all probes from the beginning: when the first of
    # them is on disk, the others last for 8 s, longer than Tune takes to stop. The one in this process stops at once.
    step_seconds = 0.005 if isinstance(executor, InlineExecutor) else 0.04
    slowly = f"recipe: {{steps: 60, spread: 0.5, step_seconds: {step_seconds}, slots: 2}}\n"
    toy_sweep.write_text(few + slowly + "engines: {count: 1, probes_per_trial: 9}\n")
    plan = make_plan(load_sweep(toy_sweep))
    run, stop = tmp_path / "run", Stop()

    def interrupt() -> None:
        while not list((run / "probes").glob("*.parquet")):
            time.sleep(0.02)
        stop.interrupt()

    beside = threading.Thread(target=interrupt, daemon=True)
    beside.start()
    cut = run_plan(plan, run, executor, stop=stop)
    beside.join(timeout=60)
    assert any(row["status"] == "open" for row in cut)
    before = verdicts_on_disk(run)
    assert before
    # What was in flight is saved, and continues where it was.
    assert list((run / "snapshots").glob("*.parquet"))
    assert run_plan(plan, run, executor) == run_plan(quick, tmp_path / "undisturbed", InlineExecutor())
    assert set(verdicts_on_disk(run).values()) == {1}
    assert before.keys() <= verdicts_on_disk(run).keys()
    assert not list((run / "snapshots").glob("*.parquet"))


@SLOW_ON_RAY
def test_a_machine_that_always_fails_ends_the_searches(executor, toy_sweep, tmp_path):
    with_texts(toy_sweep, 2, "recipe: {machine_failures: 3, steps: 2}\n")
    rows = run_plan(make_plan(load_sweep(toy_sweep)), tmp_path / "run", executor)
    assert {(row["status"], row["capacity_tokens"]) for row in rows} == {("failed", None)}


@pytest.mark.slow
def test_an_engine_that_cannot_load_its_model_reports_why(executor, toy_sweep, tmp_path):
    plan = make_plan(load_sweep(toy_sweep))
    # Found only when the weights are read: the toy refuses a recipe that was changed after the plan was made.
    models = tuple(dataclasses.replace(model, recipe={"slots": 0}) for model in plan.models)
    broken = dataclasses.replace(plan, models=models)
    with pytest.raises(ValueError, match="slots"):
        run_plan(broken, tmp_path / "run", executor)
