"""The benchmark of the GPU step: shapes as published, operations by hand, a run of the tiny one on a CPU."""

import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does for a script that is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def shapes() -> Any:
    return importlib.import_module("model_shapes")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The script, run in this process: to import torch anew takes longer than all that it measures here."""

    def script(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["gpu_step.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(BENCHMARKS / "gpu_step.py"), run_name="__main__")
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out.splitlines()

    return script


@pytest.mark.parametrize("name", ["pythia-160m", "pythia-1.4b", "llama-3.2-1b", "llama-3.1-8b", "tiny"])
def test_a_shape_has_the_parameters_of_its_model_card(shapes, name):
    shape = shapes.SHAPES[name]
    model = shapes.random_model(shape, device="meta", dtype=torch.bfloat16)
    assert sum(part.numel() for part in model.parameters()) == shape.parameters


def test_operations_of_the_tiny_shape_by_hand(shapes):
    model = shapes.random_model(shapes.SHAPES["tiny"], device="meta", dtype=torch.float32)
    queries_and_output, keys_and_values, feed_forward, head = 2 * 64 * 64, 2 * 64 * 32, 3 * 64 * 160, 64 * 512
    weights = 2 * (queries_and_output + keys_and_values + feed_forward) + head
    # 2 layers of 4 heads, 16 wide; 100 positions, half of them seen on average.
    attention_forward = 2 * (2 + 2) * (4 * 16) * (100 / 2)
    assert shapes.operations_per_token(model, 100) == 4 * weights + 3 * attention_forward


def test_the_tiny_shape_is_measured_on_a_cpu(run):
    lines = run("--device", "cpu", "--shape", "tiny", "--length", "16", "--seconds", "0", "--peak-tflops", "1")
    assert "peak 1.00 TFLOP/s, as given" in lines[1]
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells[:3] == ["tiny", "16", "128"]
    assert len(cells) == lines[3].count("|") - 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_reports_that(run):
    (line,) = run()
    assert line.startswith("No CUDA device here: nothing measured.")
