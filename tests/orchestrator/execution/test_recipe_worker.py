"""A worker of a tuning measures recipes on the model of the plan, and on no other."""

from dataclasses import replace

import pytest

from orchestrator.execution.recipe_worker import MeasurementRequest, Worker
from orchestrator.execution.stop import Stop
from orchestrator.planning.planner import make_plan
from orchestrator.spec.sweep_file import load_sweep
from tasks.values import EngineSettings, TaskError


def test_another_model_on_the_node_is_refused(toy_sweep):
    plan = make_plan(load_sweep(toy_sweep))
    (model,) = plan.models
    search = plan.searches[0]
    request = MeasurementRequest(model=model.name, recipe=model.recipe, search_ids=(search.search_id,), budget=None)
    found = Worker(plan, EngineSettings()).measure(request, Stop())
    assert found is not None
    assert found[0].capacity > 0
    other = replace(model, facts=replace(model.facts, fingerprint="another"))
    with pytest.raises(TaskError, match="another model than where the run was planned"):
        Worker(replace(plan, models=(other,)), EngineSettings()).measure(request, Stop())
