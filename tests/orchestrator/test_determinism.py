"""With `deterministic: true` a probe's result is the same beside whatever it runs. Ray's is in tests/golden."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.execution.executor import Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep

QUICKSTART = Path(__file__).resolve().parents[2] / "sweeps" / "quickstart"
TEXTS = ("01-story.txt", "02-letter.txt")


@pytest.fixture
def run_sweep(tmp_path: Path):
    def run(name: str, texts: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
        sweep = {
            "name": name,
            "models": [str(QUICKSTART / "model")],
            "texts": [{"source": "files", "path": str(QUICKSTART / "texts" / text)} for text in texts],
            "search": {"retries": 1, "max_length": 15},
            "recipe": {"steps": 20, "patience": 12},
            "engines": {"device": "cpu", "deterministic": True, "cpus": 1},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sweep))
        plan = make_plan(load_sweep(path))
        with open_session(plan, str(tmp_path / name)) as session:
            InlineExecutor().run(session, stop=Stop(), watcher=Watcher())
        rows = orchestrator.read(str(tmp_path / name)).probes.to_pylist()
        return {row["probe_id"]: (row["outcome"], row["steps"], row["memory"]) for row in rows}

    return run


@pytest.mark.slow
def test_order_and_company_change_nothing(run_sweep):
    together = run_sweep("together", TEXTS)
    assert len(together) > len(TEXTS)
    assert run_sweep("reversed", TEXTS[::-1]) == together
    alone = run_sweep("alone", TEXTS[:1])
    assert 0 < len(alone) < len(together)
    assert alone == {probe_id: together[probe_id] for probe_id in alone}
