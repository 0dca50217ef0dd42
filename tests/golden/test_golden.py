"""Golden values: identities, steps, outcomes and memories that no later change may move without saying why.

Memories are compared bit by bit where the processor computes as the one that recorded them: variables of the
environment ask every x86-64 processor with AVX2 for the same instructions. `CAPSWEEP_RECORD_GOLDEN=1` writes the values
anew.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.golden.runs import PUBLISHED, sweeps

HERE = Path(__file__).resolve().parent
VALUES = HERE / "values.json"
IS_X86 = platform.machine() in ("x86_64", "AMD64")


def computed(folder: Path, names: Sequence[str], variables: dict[str, str]) -> dict[str, Any]:
    """The values of these names, from a process that computes as these variables say."""
    ended = subprocess.run(
        [sys.executable, str(HERE / "runs.py"), str(folder), *names],
        env={**os.environ, **variables, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def golden() -> dict[str, Any]:
    return json.loads(VALUES.read_text())


def identities(probes: list[dict[str, Any]]) -> set[str]:
    return {probe["search_id"] for probe in probes}


@pytest.mark.parametrize(
    "names",
    [("toy", "sphere"), *(pytest.param((name,), marks=pytest.mark.slow) for name in (PUBLISHED, "quickstart"))],
    ids="-".join,
)
def test_in_one_process(tmp_path, same_arithmetic, names):
    found = computed(tmp_path, names, same_arithmetic)
    if os.environ.get("CAPSWEEP_RECORD_GOLDEN") == "1":
        VALUES.write_text(json.dumps({**golden(), **found}, indent=1) + "\n")
    wanted = {name: golden()[name] for name in names}
    for name in found.keys() - {"toy", PUBLISHED}:
        assert identities(found[name]) == identities(wanted[name])
    for name, values in wanted.get(PUBLISHED, {}).items():
        for at, here in zip(values["first_values"], found[PUBLISHED][name]["first_values"], strict=True):
            assert here == pytest.approx(at, abs=2e-3)
    if not IS_X86:
        assert found.get("toy") == wanted.get("toy")
        pytest.skip("golden memories are those of x86-64 with AVX2; identities and the toy were compared")
    assert found == wanted


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_ray(local_ray, tmp_path):
    # The default recipe is enough: what an executor may do wrong does not depend on the optimizer.
    found, wanted = sweeps(tmp_path, on_ray=True, names=("toy", "sphere")), golden()
    assert identities(found["sphere"]) == identities(wanted["sphere"])
    assert found["toy"] == wanted["toy"]
    if not IS_X86:
        pytest.skip("golden memories are those of x86-64 with AVX2; identities and the toy were compared")
    assert found["sphere"] == wanted["sphere"]
