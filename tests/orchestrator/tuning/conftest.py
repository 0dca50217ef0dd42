from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.spec.sweep_file import load_sweep


@pytest.fixture
def plan_of() -> Callable[[Path], Plan]:
    return lambda path: make_plan(load_sweep(path))
