"""Tables in the terminal."""

import io

import pytest
from rich.console import Console

from orchestrator.planning.estimate import ModelEstimate
from orchestrator.report.terminal import estimates_table


def estimate(model: str, **changes: float) -> ModelEstimate:
    priced = {"parameters": 6_900_000_000, "context": 131_072, "texts": 1000, "searches": 16_000, "probes": 480_000}
    return ModelEstimate(**{"model": model, "expected_tokens": 300.0, "tera_operations": 4.2e9, **priced, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "models", [["org/a-model-of-some-length-6.9b"], ["org/[bold]a-first", "org/a-second-model-8b"]]
)
def test_what_a_sweep_will_take_fits_into_80_columns_uncut(models):
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as captured:
        console.print(estimates_table([estimate(model) for model in models], tflops=400))
    lines = captured.get().splitlines()
    (header,) = [line for line in lines if "model" in line and "searches" in line]
    assert header.split() == ["model", "params", "context", "texts", "searches", "probes", "Tflop", "time"]
    rows = [line.split() for line in lines if "6.9B" in line]
    assert [row[1:] for row in rows] == [
        ["6.9B", "131,072", "1,000", "16,000", "~480k", "~4.2B", "~121", "d", "12", "h"] for _ in models
    ]
    assert max(map(len, lines)) <= 80
    assert all(row[0].endswith(model.removeprefix("org/")[-12:]) for row, model in zip(rows, models, strict=True))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [(7, "7"), (9_999, "9999"), (14_200, "14.2k"), (260_032, "260k"), (1_240_000_000, "1.2B")],
)
def test_large_numbers_are_short(parameters, expected):
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as captured:
        console.print(estimates_table([estimate("m", parameters=parameters)], tflops=400))
    assert captured.get().splitlines()[3].split()[1] == expected
