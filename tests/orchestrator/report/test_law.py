"""Power laws of capacity: known laws come back, and what is no point of a law is left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.figures.laws import law_figures
from orchestrator.report.law import MODELS, Series, laws, power_law, pretraining_of
from orchestrator.report.writing import all_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES, SEARCHES

Held = dict[tuple[str, int], list[float]]
"""(model, k) -> capacity of each text."""


def tables(held: Held, *models: dict[str, Any], status: dict[tuple[str, int], str] | None = None) -> ReportTables:
    rows = [
        {
            "search_id": f"{model}{k}{text}",
            "model": model,
            "num_vectors": k,
            "source": "pg19:a",
            "sample_id": f"t{text}",
        }
        | {"status": (status or {}).get((model, k), "measured"), "capacity_tokens": tokens, "capacity_bits": 2 * tokens}
        for (model, k), values in held.items()
        for text, tokens in enumerate(values)
    ]
    return ReportTables(
        searches=pa.Table.from_pylist(rows, schema=SEARCHES),
        probes=PROBES.empty_table(),
        samples=SAMPLES.empty_table(),
        models=pa.Table.from_pylist(list(models), schema=MODELS),
    )


def found(of: ReportTables, axis: str, unit: str = "tokens") -> list[Series]:
    every = laws(of.searches, of.samples, of.models)
    return [series for series in every if (series.axis, series.unit) == (axis, unit)]


class TestPowerLaw:
    def test_a_known_law_comes_back(self):
        places = [1.0, 4.0, 16.0, 64.0]
        law = power_law(places, [[("a", 3 * x**0.5)] for x in places], over_models=True)
        assert (law.exponent, law.scale, law.misfit) == pytest.approx((0.5, 3.0, 1.0))
        assert law.at(100) == pytest.approx(30)
        assert (law.interval, law.resampled) == (pytest.approx((0.5, 0.5)), "models")

    def test_the_interval_reaches_from_text_to_text(self):
        places = [1.0, 4.0, 16.0, 64.0]
        values = [[("a", 10 * x**0.4), ("b", 10 * x**0.6)] for x in places]
        law = power_law(places, values, over_models=False)
        assert (law.interval, law.resampled) == (pytest.approx((0.4, 0.6)), "texts")
        assert 0.4 < law.exponent < 0.6

    def test_one_text_has_no_interval(self):
        law = power_law([1.0, 2.0, 4.0, 8.0], [[("a", x)] for x in (1.0, 2.0, 4.0, 8.0)], over_models=False)
        assert (law.exponent, law.interval) == (pytest.approx(1), None)

    def test_misfit_is_the_spread_of_the_logarithms(self):
        # Around a flat line through ln 8: off by a factor of 2, twice up and twice down; sqrt(4 / (4 - 2)) times ln 2.
        law = power_law([1.0, 2.0, 4.0, 8.0], [[("a", y)] for y in (16.0, 4.0, 4.0, 16.0)], over_models=True)
        assert law.exponent == pytest.approx(0)
        assert law.misfit == pytest.approx(2 ** (2**0.5))


class TestSeries:
    def test_vectors_are_an_axis_of_each_model(self):
        held: Held = {("m", k): [10.0 * k, 20.0 * k] for k in (1, 2, 4, 8)}
        (series,) = found(tables(held), "vectors")
        assert series.law is not None
        assert (series.of, series.law.exponent, series.law.scale) == ("m, pg19", pytest.approx(1), pytest.approx(15))
        (bits,) = found(tables(held), "vectors", "bits")
        assert bits.law is not None
        assert bits.law.scale == pytest.approx(30)

    def test_three_points_have_no_law(self):
        (series,) = found(tables({("m", k): [10.0 * k] for k in (1, 2, 4)}), "vectors")
        assert len(series.points) == 3
        assert series.law is None

    @pytest.mark.parametrize("status", ["at_text_end", "at_max_length", "at_model_limit"])
    def test_a_lower_bound_is_no_point_of_a_law(self, status):
        held: Held = {("m", k): [10.0 * k] for k in (1, 2, 4, 8)} | {("m", 16): [90.0]}
        (series,) = found(tables(held, status={("m", 16): status}), "vectors")
        assert series.law is not None
        assert series.law.exponent == pytest.approx(1)
        assert [point.is_bound for point in series.points] == [False] * 4 + [True]
        (short,) = found(tables(held, status={("m", 8): status, ("m", 16): status}), "vectors")
        assert short.law is None

    def test_models_lie_along_their_sizes_with_the_last_of_their_checkpoints(self):
        sizes = [{"base": f"org/{name}", "embedding_width": d, "num_parameters": d * d} for name, d in SIZES.items()]
        models = [{"model": row["base"], **row} for row in sizes]
        early = {"model": "org/a@step10", "base": "org/a", "revision": "step10", "embedding_width": 64}
        models[0]["revision"] = "step1000"
        held: Held = {(f"org/{name}", 1): [float(d) ** 2 / 64] for name, d in SIZES.items()}
        of = tables(held | {("org/a@step10", 1): [1.0]}, *models, early)
        (width,) = found(of, "width")
        assert width.law is not None
        assert (width.of, width.law.exponent, width.law.resampled) == ("pg19, k = 1", pytest.approx(2), "models")
        (parameters,) = found(of, "parameters")
        assert parameters.law is not None
        assert parameters.law.exponent == pytest.approx(1)
        # A run of an earlier version did not record layers.
        assert found(of, "layers") == []

    def test_checkpoints_of_one_model_lie_along_their_pre_training(self):
        names = {f"step{n}": n for n in (1, 16, 256, 4096)}
        models = [{"model": f"org/a@{step}", "base": "org/a", "revision": step} for step in names]
        of = tables({(f"org/a@{step}", 1): [3.0 * n**0.25] for step, n in names.items()}, *models)
        (series,) = found(of, "trained_steps")
        assert series.law is not None
        assert (series.of, series.law.exponent) == ("a, pg19, k = 1", pytest.approx(0.25))

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("step1000", ("trained_steps", 1000)),
            ("step1000-tokens4B", ("trained_tokens", 4e9)),
            ("stage1-step500-tokens0.5T", ("trained_tokens", 5e11)),
            ("models/tiny-step_20", ("trained_steps", 20)),
            ("main", None),
        ],
    )
    def test_names_of_checkpoints_state_their_pre_training(self, name, expected):
        assert pretraining_of(name) == expected


SIZES = {"a": 64, "b": 128, "c": 256, "d": 512}


def test_the_figure_has_the_law_beside_its_points():
    held: Held = {("m", k): [10.0 * k, 20.0 * k] for k in (1, 2, 4, 8)} | {("m", 16): [100.0]}
    (drawn,) = law_figures(tables(held, status={("m", 16): "at_text_end"}))
    traces: list[Any] = list(drawn.figure.select_traces())
    curves = {trace.name: trace for trace in traces if not trace.showlegend}
    assert drawn.name == "law-of-vectors"
    assert curves["m, pg19: means"].y == (15, 30, 60, 120)
    assert curves["m, pg19: lower bounds"].y == (100,)
    line = curves["m, pg19: 15 x^1.00 [1.00, 1.00]"]
    assert (line.y[0], line.y[-1]) == pytest.approx((15, 240))
    assert "over texts" in drawn.caption
    assert "Hollow points" in drawn.caption


class TestCommand:
    def test_fit_prints_the_laws_of_a_run(
        self, toy_sweep: Path, tmp_path: Path, finished: Callable[..., Path], capsweep: Callable[..., Any]
    ):
        several = tmp_path / "several.yaml"
        several.write_text(toy_sweep.read_text() + "num_vectors: [1, 2, 4, 8]\n")
        ended = capsweep("fit", finished(several))
        assert ended.returncode == 0, ended.stderr
        # What the toy holds depends on its text alone.
        (tokens,) = [line for line in ended.stdout.splitlines() if " tokens " in line]
        assert tokens.split()[:5] == ["vectors", "model,", "files", "tokens", "4"]
        assert " x^0.00 " in tokens or " x^-0.00 " in tokens

    def test_fewer_points_are_refused(self, toy_sweep, finished, capsweep):
        ended = capsweep("fit", finished(toy_sweep))
        assert ended.returncode == 2
        assert "wanted at least 4" in ended.stderr

    def test_the_models_of_a_run_are_those_of_its_provenance(self, toy_sweep, finished):
        (row,) = all_tables([open_run(str(finished(toy_sweep)))]).models.to_pylist()
        assert (row["model"], row["base"], row["embedding_width"], row["num_layers"]) == ("toy/model",) * 2 + (1, None)
