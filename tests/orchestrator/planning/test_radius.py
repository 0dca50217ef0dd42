"""The radius, the dtype and the readings of a model in the plan."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.provenance import with_session
from orchestrator.spec.sweep import Sweep


def search_ids(plan: Plan) -> set[str]:
    return {search.search_id for search in plan.searches}


class TestRadius:
    """What is measured on a model when its run is planned, and never again."""

    @pytest.fixture
    def sweep(self, shipped_model: Path, tmp_path: Path) -> Callable[..., Sweep]:
        (tmp_path / "text.txt").write_text("The first text.")

        def make(model: dict[str, Any] | None = None, **changes: Any) -> Sweep:
            entry = {"source": "files", "path": str(tmp_path / "text.txt")}
            models = [{"name": str(shipped_model), **(model or {})}]
            return Sweep.model_validate({"name": "radius", "models": models, "texts": [entry], **changes})

        return make

    def test_it_is_written_into_the_sweep_the_recipe_and_the_identity(self, sweep):
        plan = make_plan(sweep())
        assert plan.sweep.models[0].radius == 100.0
        assert plan.models[0].recipe["radius"] == plan.question_of(plan.models[0].name).recipe["radius"] == 100.0
        assert search_ids(plan) == search_ids(make_plan(sweep({"radius": 100.0})))
        assert search_ids(plan).isdisjoint(search_ids(make_plan(sweep({"radius": 300.0}))))

    def test_what_was_loaded_was_checked(self, sweep):
        readings = make_plan(sweep()).models[0].readings
        assert readings is not None
        assert readings.notes == ()
        assert 0 < readings.largest_difference < 1e-5
        assert make_plan(sweep(recipe={"optimizer": "adamw"})).models[0].readings == readings
        assert make_plan(sweep({"radius": 30.0})).models[0].readings is None

    def test_provenance_keeps_what_the_check_found(self, sweep):
        plan, now = make_plan(sweep()), datetime.now(UTC)
        # As a file holds it.
        first = json.loads(json.dumps(with_session(plan, {}, "first", now, notes=(), added=None)))
        resumed = with_session(make_plan(plan.sweep), first, "second", now, notes=(), added=None)
        (about,) = resumed["models"].values()
        found = first["models"][plan.models[0].name]["readings"]
        assert about["readings"] == {**found, "notes": []}
        assert about["readings"]["largest_difference"] < 1e-5

    def test_a_run_keeps_what_it_found(self, sweep, monkeypatch):
        held = sweep({"radius": 30.0})
        monkeypatch.setattr("tasks.radius.measured_on", lambda *_, **__: pytest.fail("measured again"))
        plan = make_plan(sweep(), held=held)
        assert plan.models[0].recipe["radius"] == 30.0
        assert plan.sweep == held

    def test_the_recipe_goes_before_the_model(self, sweep):
        plan = make_plan(sweep({"radius": 30.0}, recipe={"radius": 300.0}))
        assert plan.models[0].recipe["radius"] == 300.0

    def test_a_model_to_which_length_means_nothing_gets_adamw_and_a_note(self, sweep):
        plan = make_plan(sweep({"radius": 0.0}, recipe={"patience": 99}))
        recipe = plan.models[0].recipe
        assert (recipe["optimizer"], recipe["patience"]) == ("adamw", 99)
        assert "optimizer: adamw" in plan.notes[0]

    def test_a_run_keeps_the_dtype_it_decided_on(self, sweep, monkeypatch):
        monkeypatch.setattr("tasks.devices.native_dtype", lambda device: "bfloat16")
        plan = make_plan(sweep({"dtype": "auto", "radius": 30.0}))
        assert plan.sweep.models[0].dtype == plan.models[0].model.dtype == "bfloat16"
        assert any("dtype: auto is bfloat16" in note for note in plan.notes)
        assert search_ids(plan) == search_ids(make_plan(sweep({"dtype": "bfloat16", "radius": 30.0})))
        monkeypatch.setattr("tasks.devices.native_dtype", lambda device: pytest.fail("decided again"))
        assert make_plan(sweep({"dtype": "auto"}), held=plan.sweep).sweep == plan.sweep

    def test_a_device_that_is_not_here_decides_no_dtype(self, sweep):
        with pytest.raises(BadInput, match="cuda was asked for"):
            make_plan(sweep({"dtype": "auto"}, engines={"device": "cuda"}))

    def test_a_check_loads_no_weights(self, sweep, monkeypatch):
        monkeypatch.setattr("tasks.radius.measured_on", lambda *_, **__: pytest.fail("weights are loaded"))
        assert make_plan(sweep(), measure=False).models[0].recipe["radius"] is None
