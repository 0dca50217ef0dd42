"""What Tune is shown of an assignment, and what becomes of its probes if their engine is lost."""

import pytest

from orchestrator.cluster.assignment import Assignment
from orchestrator.cluster.engine_handle import EngineHandle
from orchestrator.cluster.placement import EngineNeed
from tasks.values import Failed, Probe


@pytest.fixture
def assignment() -> Assignment:
    engine = EngineHandle(name="engine 0", model="m", actor=None, loading=None, need=EngineNeed(cpus=1.0, gpus=0.0))
    probes = [
        Probe(probe_id=f"p{n}", search_id="s", number=n, sample_id="x", tokens=(1, 2, 3), length=n + 1, num_vectors=1)
        for n in range(2)
    ]
    return Assignment(
        assignment_id="a", number=7, engine=engine, probes={probe.probe_id: probe for probe in probes}, losses=2
    )


def test_tune_is_shown_what_is_asked_and_of_whom(assignment):
    shown = assignment.config(most_running=50)
    assert (shown["assignment"], shown["number"], shown["engine"], shown["model"]) == ("a", 7, "engine 0", "m")
    assert (shown["probes"], shown["lengths"]) == (["p0", "p1"], [1, 2])
    # 25 reports a second of all trials together.
    assert shown["wait_seconds"] == 2.0
    assert assignment.config(most_running=3)["wait_seconds"] == 1.0


def test_probes_without_a_verdict_are_failed_by_the_machine(assignment):
    (failed,) = assignment.failed("it hung", known={"p0"}, now=5.0)
    assert (failed.probe.probe_id, failed.outcome) == ("p1", Failed(reason="its engine was lost: it hung"))
    assert (failed.started_at, failed.finished_at) == (5.0, 5.0)
    reasons = {finished.outcome for finished in assignment.failed(None, known=(), now=5.0)}
    assert reasons == {Failed(reason="the process of its trial was lost 2 times")}
