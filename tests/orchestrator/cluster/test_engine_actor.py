"""What an engine actor hands out, and to whom; here as a plain object, without Ray."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cluster.engine_actor import EngineActor, EngineLoad
from tasks.registry import TASKS
from tasks.values import EngineSettings, Model, Probe, Question, TaskError

LOAD = EngineLoad(
    run="run",
    name="engine",
    task="toy",
    model=Model(name="toy/model"),
    fingerprint="toy toy/model",
    question=Question(recipe=TASKS["toy"].recipe({"steps": 20, "step_seconds": 0.05})),
    settings=EngineSettings(),
    snapshot_seconds=60.0,
)


@pytest.fixture
def actor() -> EngineActor:
    made = EngineActor("toy/model")
    made.load(LOAD, recorder=None)  # for snapshots only
    return made


def test_another_model_on_the_node_is_refused():
    with pytest.raises(
        TaskError, match=r"this is another model than where the run was planned \(fingerprint toy toy/mo"
    ):
        EngineActor("toy/model").load(replace(LOAD, fingerprint="what was planned"), recorder=None)


PROBE = Probe(
    probe_id="p", search_id="s", number=0, sample_id="t", tokens=tuple(range(32, 92)), length=4, num_vectors=1
)


def wait_for_steps(actor: EngineActor, number: int) -> None:
    deadline = time.monotonic() + 60
    while actor.report().stats.slot_steps < number:
        assert time.monotonic() < deadline, "the engine takes no steps"
        time.sleep(0.01)


def test_what_a_killed_trial_waits_for_is_given_to_the_one_that_follows(actor: EngineActor):
    killed = actor.submit("assignment", [PROBE], anew=True)
    answers: list[Any] = []
    # Its process is gone, its question is not: it waits in the engine until something has finished.
    waiting = threading.Thread(target=lambda: answers.append(actor.take("assignment", killed, 10.0)))
    waiting.start()
    wait_for_steps(actor, 1)  # the probe lasts for 20, which take a second
    follows = actor.submit("assignment", [PROBE], anew=True)
    waiting.join(timeout=60)
    assert answers
    assert answers[0][0] == []
    finished, _, left = actor.take("assignment", follows, 10.0)
    assert [item.probe.probe_id for item in finished] == ["p"]
    assert left == 0
    # And again to a third, as long as nobody confirmed that it was dealt with.
    again = actor.submit("assignment", [PROBE], anew=True)
    assert [item.probe.probe_id for item in actor.take("assignment", again, 1.0)[0]] == ["p"]
    assert actor.take("assignment", again, 0.05)[0] == []


def test_a_question_that_arrives_late_takes_nothing(actor: EngineActor):
    killed = actor.submit("assignment", [PROBE], anew=True)
    follows = actor.submit("assignment", [PROBE], anew=True)
    wait_for_steps(actor, 20)
    assert actor.take("assignment", killed, 0.1)[0] == []
    assert len(actor.take("assignment", follows, 0.1)[0]) == 1
