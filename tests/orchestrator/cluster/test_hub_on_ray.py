"""Engines on Ray read the hub's models at the commit of the plan, with the variables that they are given."""

from pathlib import Path

import pytest

import orchestrator
from orchestrator.cluster.executor import RayExecutor
from orchestrator.execution.executor import Watcher
from orchestrator.execution.stop import Stop
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep
from tests.hub import TOKEN, Hub

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow]


def test_a_gated_model_whose_main_moves_before_the_engine_loads_it(
    local_ray: None, hub: Hub, shipped_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    commit = hub.push("org/gated", shipped_model, gated=True)
    (tmp_path / "text.txt").write_text("Once upon a time there was a girl.")
    spec = tmp_path / "gated.yaml"
    spec.write_text(
        "name: gated\nmodels: [org/gated]\ntexts: [{source: files, path: text.txt}]\nengines: {device: cpu, count: 1}\n"
        "recipe: {radius: 30, patience: 2}\nsearch: {max_length: 2, retries: 0}\n"
    )
    plan, run = make_plan(load_sweep(spec)), tmp_path / "run"
    hub.push("org/gated", {"config.json": b"{}"})
    # Ray's processes were started before there was a hub; their caches are empty.
    variables = hub.variables(tmp_path / "engines", token=TOKEN)
    with open_session(plan, str(run)) as session:
        RayExecutor(None, variables).run(session, stop=Stop(), watcher=Watcher())
        session.finish()
    rows = orchestrator.read(str(run)).probes
    assert set(rows["model_revision"].to_pylist()) == {commit}
    assert "failed" not in rows["outcome"].to_pylist()
    assert list((tmp_path / "engines" / "hub").glob(f"models--org--gated/snapshots/{commit}/*.safetensors"))
    assert not [file for file in run.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
