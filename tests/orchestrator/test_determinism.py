"""With `deterministic: true` a probe's result is the same wherever and beside whatever it runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.cluster.runner import run_on_ray
from orchestrator.inline import run_inline
from orchestrator.plan import make_plan
from orchestrator.session import open_session
from orchestrator.spec import load_sweep
from orchestrator.stop import Stop

QUICKSTART = Path(__file__).resolve().parents[3] / "sweeps" / "quickstart"
TEXTS = ("01-story.txt", "02-letter.txt", "03-recipe.txt")


@pytest.fixture
def run_sweep(tmp_path: Path):
    if not (QUICKSTART / "model").is_dir():
        pytest.skip("needs the quickstart model, which is not in this checkout")

    def run(name: str, texts: tuple[str, ...], *, on_ray: bool = False) -> dict[str, tuple[Any, ...]]:
        sweep = {
            "name": name,
            "models": [str(QUICKSTART / "model")],
            "texts": [{"source": "files", "path": str(QUICKSTART / "texts" / text)} for text in texts],
            "search": {"retries": 1, "max_length": 12},
            "recipe": {"steps": 60, "patience": 40},
            "engines": {"device": "cpu", "deterministic": True, "cpus": 1},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(sweep))
        plan = make_plan(load_sweep(path))
        with open_session(plan, str(tmp_path / name)) as session:
            settings, stop = plan.sweep.engine_settings(), Stop()
            if on_ray:
                ignore = lambda values: None  # noqa: E731
                run_on_ray(
                    session,
                    plan.sweep.engines,
                    settings,
                    address=None,
                    stop=stop,
                    on_verdicts=ignore,
                    on_engines=ignore,
                    on_message=ignore,
                )
            else:
                run_inline(session, settings, stop=stop, on_verdicts=lambda verdicts: None)
        rows = orchestrator.read(str(tmp_path / name)).probes.to_pylist()
        return {row["probe_id"]: (row["outcome"], row["steps"], row["memory"]) for row in rows}

    return run


def test_ray_order_and_company_change_nothing(local_ray, run_sweep):
    together = run_sweep("inline", TEXTS)
    assert len(together) >= len(TEXTS)
    assert run_sweep("ray", TEXTS, on_ray=True) == together
    assert run_sweep("reversed", TEXTS[::-1]) == together
    alone = run_sweep("alone", TEXTS[:1])
    assert alone == {probe_id: together[probe_id] for probe_id in alone}
