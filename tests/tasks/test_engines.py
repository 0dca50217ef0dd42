"""Every engine keeps the same promises: the batched one on a real model, and the toy."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contract import Engine
from tasks.registry import TASKS
from tasks.values import EngineSettings, Lossy, Model, Probe, Question
from tests.device import DEVICE

LENGTH = 8
"""Tokens of a text, all asked for at once but where a probe is to grow."""


@pytest.fixture(params=["cramming", "toy"])
def open_one(request: pytest.FixtureRequest, model: Model) -> Callable[..., Engine]:
    """Open an engine of this task; without `steps`, no probe ends before its budget does."""
    task = TASKS[request.param]

    def make(*, slots: int = 8, steps: int = 1000, patience: int | None = None) -> Engine:
        fields = {"slots": slots, "steps": steps}
        if task.name == "cramming":
            fields = {"optimizer": "adamw", "steps": steps, "patience": patience or steps}
        settings = EngineSettings(device=DEVICE, tokens_per_step=slots * LENGTH, batch_cost_tokens=64)
        return task.open_engine(model, Question(recipe=task.recipe(fields)), settings)

    return make


@pytest.fixture
def probes(story_probes: Callable[..., list[Probe]]) -> list[Probe]:
    return story_probes(5, longest=LENGTH, length=LENGTH)


def test_every_probe_comes_back_once_as_it_was_given(open_one, probes):
    """So do those that end while others continue: they are held while they wait for their proof."""
    engine = open_one(slots=2)
    probes = [replace(p, attempt=n, max_trained_tokens=(n + 1) * LENGTH) for n, p in enumerate(probes)]
    assert (engine.num_held, engine.num_busy) == (0, 0)
    engine.submit(probes[:3], num_open=5)
    assert (engine.num_held, engine.num_busy) == (3, 3)
    finished = engine.step()
    engine.submit(probes[3:], num_open=5)
    while engine.num_held:
        finished += engine.step()
        assert engine.num_held == 5 - len(finished)
        assert 0 <= engine.num_busy <= engine.num_held
    assert engine.step() == []
    assert sorted((item.probe for item in finished), key=lambda probe: probe.attempt) == probes


def test_a_waiting_probe_takes_the_place_of_one_that_ends(open_one, probes):
    engine = open_one(slots=2, steps=3)
    engine.submit(probes, num_open=5)
    began_at: dict[str, int] = {}
    for step in range(1, 10):
        engine.step()
        for snapshot in engine.snapshots():
            began_at.setdefault(snapshot.probe_id, step - snapshot.steps)
    assert engine.num_held == 0
    assert [began_at[probe.probe_id] for probe in probes] == [0, 0, 3, 3, 6]


def test_what_it_has_done_is_the_sum_of_its_probes(open_one, probes, run_engine):
    engine = open_one(slots=2, steps=3)
    assert engine.stats().slots_busy == 0
    found = [item.outcome.measurement for item in run_engine(engine, probes).values()]
    stats = engine.stats()
    assert stats.slot_steps == sum(measurement.steps for measurement in found)
    assert stats.trained_tokens == sum(measurement.trained_tokens for measurement in found)
    # Two slots were busy in six steps, and one of the two in the last three: searches to serve there were five.
    assert stats.slots_busy == 15 / 18


def test_slots_for_which_there_is_no_search_are_not_idle(open_one, probes, run_engine):
    engine = open_one(slots=4, steps=2)
    run_engine(engine, probes[:1])
    assert engine.stats().slots_busy == 1


def test_a_probe_ends_with_the_step_that_spends_its_budget(open_one, probes, run_engine):
    probes = [replace(probe, max_trained_tokens=5 * LENGTH + 1) for probe in probes[2:]]
    finished = run_engine(open_one(), probes)
    assert len(finished) == 3
    for item in finished.values():
        found = item.outcome.measurement
        assert isinstance(item.outcome, Lossy)
        assert (found.steps, found.trained_tokens, found.failed_length) == (6, 6 * LENGTH, LENGTH)


def test_only_what_has_taken_a_step_has_a_snapshot(open_one, probes):
    engine = open_one(slots=1)
    engine.submit(probes[:2], num_open=2)
    assert engine.snapshots() == []
    engine.step()
    engine.step()
    assert [(snapshot.probe_id, snapshot.steps) for snapshot in engine.snapshots()] == [(probes[0].probe_id, 2)]


def test_a_probe_resumes_from_its_snapshot_as_if_nothing_had_happened(open_one, story_probes, run_engine):
    """One that has grown, and one each that its patience, its steps and its budget end."""
    _, grows = story_probes(2, longest=12)
    stalls, runs_out = story_probes(4, longest=20, length=20)[2:]
    spends = replace(grows, probe_id="spends", search_id="spends", length=12, max_trained_tokens=7 * 12)
    probes = [grows, stalls, runs_out, spends]
    recipe = {"steps": 12, "patience": 8}

    def measurements(engine, probes):
        found = run_engine(engine, probes)
        return {probe_id: replace(item.outcome.measurement, seconds=0.0) for probe_id, item in found.items()}

    whole = measurements(open_one(**recipe), probes)
    engine = open_one(**recipe)
    engine.submit(probes, num_open=4)
    for _ in range(6):
        assert not engine.step()
    before = engine.stats()
    snapshots = {snapshot.probe_id: snapshot for snapshot in engine.snapshots()}
    assert [snapshot.steps for snapshot in snapshots.values()] == [6, 6, 6, 6]
    engine = open_one(**recipe)
    assert measurements(engine, [replace(p, snapshot=snapshots[p.probe_id].state) for p in probes]) == whole
    assert before.slot_steps + engine.stats().slot_steps == sum(found.steps for found in whole.values())
