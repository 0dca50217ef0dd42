"""What the figures draw: each line where the rows put it.

Long, as each figure has its test here.
"""

from collections.abc import Callable
from math import log
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.errors import BadInput
from orchestrator.report.export import exported_tables
from orchestrator.report.figures.all_figures import FIGURES, figures
from orchestrator.report.figures.canvas import INK, CaptionedFigure, ReportTables, blank_figure
from orchestrator.report.figures.entropy import entropy_with_and_without_memory
from orchestrator.report.figures.lengths import accuracy_against_length, decoding_capacity_per_model
from orchestrator.report.figures.memories import accuracy_along_lines, bits_ledger
from orchestrator.report.figures.printed import MOST_DOTS, inches_of, printed
from orchestrator.report.figures.probes import accuracy_over_positions, success_against_length
from orchestrator.report.figures.robustness import bits_that_survive, bound_by_robustness
from orchestrator.report.figures.scaling import PLAIN_SIZE, gain_against_theory, utilization_by_source
from orchestrator.report.figures.vectors import scaling_with_vectors
from orchestrator.report.law import MODELS
from orchestrator.report.robustness import survived, turned_memories
from orchestrator.store.probe_columns import PROBES, packed_bits
from orchestrator.store.schema import LINES, SAMPLES, SEARCHES


def tables_of(
    *, searches: list[dict[str, Any]] | None = None, probes: list[dict[str, Any]] | None = None, **others: pa.Table
) -> ReportTables:
    """Tables of a run, each row filled up with what the figures need."""
    shared = {"model": "m", "source": "files:a", "num_vectors": 1}
    asked = [{**shared, "search_id": f"s{n}", "status": "measured", **row} for n, row in enumerate(searches or [])]
    tried = [{**shared, "probe_id": f"p{n}", "number": n, **row} for n, row in enumerate(probes or [])]
    return ReportTables(
        searches=pa.Table.from_pylist(asked, schema=SEARCHES),
        probes=pa.Table.from_pylist(tried, schema=PROBES),
        samples=SAMPLES.empty_table(),
        **others,
    )


def traces(drawn: CaptionedFigure | None) -> dict[str, Any]:
    """The traces that hold data, by name: the keys of a legend hold none."""
    assert drawn is not None
    all_traces: list[Any] = list(drawn.figure.select_traces())
    named = [trace for trace in all_traces if trace.x is not None and trace.x[0] is not None]
    assert all(trace.name for trace in named), "a CSV would not show which series this is"
    assert len({trace.name for trace in named}) == len(named)
    return {trace.name: trace for trace in named}


def test_each_model_has_a_panel_with_a_line_for_each_k_and_a_threshold():
    rows = [
        {"model": model, "num_vectors": k, "outcome": outcome, "measured_length": 9, "sample_id": f"text-{text}"}
        | {"nats_without_memory": without * log(2), "nats_with_memory": left * log(2)}
        for model, k, outcome, without, left in (
            ("a", 1, "lossless", 30, 2),
            ("a", 1, "lossy", 60, 20),
            ("a", 2, "lossy", 90, 20),
            ("b", 1, "lossless", 10, 8),
            ("b", 1, "lossy", 40, 30),
        )
        for text in range(2)
    ]
    found = traces(entropy_with_and_without_memory(tables_of(probes=rows)))
    gains = {name: trace.x[0] for name, trace in found.items() if "y = x -" in name}
    assert gains == {
        "a, k = 1: y = x - 40 bits": pytest.approx(40),
        "a, k = 2: y = x - 70 bits": pytest.approx(70),
        "b, k = 1: y = x - 10 bits": pytest.approx(10),
    }
    assert found["a: lossless below 2 bits"].y == pytest.approx((2, 2))
    assert found["b: lossless below 8 bits"].y == pytest.approx((8, 8))
    assert found["a, k = 1: y = x - 40 bits"].line.color == found["a: lossless below 2 bits"].line.color
    assert found["a, k = 1: y = x - 40 bits"].line.color != found["b, k = 1: y = x - 10 bits"].line.color
    panels = {model: {trace.xaxis for name, trace in found.items() if name.startswith(model)} for model in "ab"}
    assert panels == {"a": {"x"}, "b": {"x2"}}


def test_a_threshold_that_is_wrong_as_often_as_a_guess_is_not_drawn():
    rows = [
        {"outcome": ("lossless", "lossy")[number % 2], "measured_length": 9, "sample_id": f"text-{number}"}
        | {"nats_without_memory": 90.0, "nats_with_memory": float(number)}
        for number in range(20)
    ]
    drawn = entropy_with_and_without_memory(tables_of(probes=rows))
    assert not [name for name in traces(drawn) if "lossless below" in name]
    assert drawn is not None
    assert "Level lines" not in drawn.caption


def test_random_words_are_drawn_in_the_colour_of_letters():
    rows = [
        {"source": source, "outcome": "lossy", "measured_length": 9, "sample_id": source}
        | {"nats_without_memory": 9.0, "nats_with_memory": 1.0}
        for source in ("random_words:1", "random:2", "files:a")
    ]
    found = traces(entropy_with_and_without_memory(tables_of(probes=rows)))
    assert (found["m: random words, lossy"].marker.color, len(found["m: random words, lossy"].x)) == (INK, 2)
    assert found["m: lossy"].marker.coloraxis == "coloraxis"


class TestGainAndUtilization:
    ROWS = tuple(
        {"model": "a", "num_vectors": k, "seed": seed, "sample_id": text, "capacity_tokens": 9}
        | {"theoretical_tokens": 100.0 * k, "token_gain": gain, "utilization": gain / (100 * k)}
        for k in (1, 2)
        for text, gain in (("x", 4 * k), ("y", 8 * k))
        for seed in range(20)
    )

    def test_seeds_of_one_text_do_not_make_an_interval_narrower(self):
        (trace,) = traces(gain_against_theory(tables_of(searches=list(self.ROWS)))).values()
        assert (trace.x, trace.y) == ((100.0, 200.0), (6.0, 12.0))
        # Of two texts a bootstrap mean is one of three values: the interval goes from the lower text to the higher.
        assert trace.error_y.array == (2.0, 4.0)
        assert trace.error_y.arrayminus == (2.0, 4.0)

    def test_utilization_has_a_bar_for_each_k(self):
        found = traces(utilization_by_source(tables_of(searches=list(self.ROWS))))
        assert {name: bar.y for name, bar in found.items()} == {"a, k = 1": (0.06,), "a, k = 2": (0.06,)}
        assert found["a, k = 1"].error_y.array == (0.02,)

    def test_the_key_is_as_pale_as_the_bars(self):
        """In a legend, a bar has the opacity of its colour, not its own."""
        drawn = utilization_by_source(tables_of(searches=list(self.ROWS)))
        assert drawn is not None
        drawn_traces: list[Any] = list(drawn.figure.select_traces())
        key = {trace.name: trace.marker for trace in drawn_traces if (trace.name or "").startswith("k =")}
        assert (key["k = 1"].color, key["k = 2"].color) == ("rgba(138,146,158,1.0)", "rgba(138,146,158,0.65)")


def test_one_group_has_nothing_to_be_compared_with():
    rows = [{"capacity_tokens": 9, "theoretical_tokens": 100.0, "token_gain": 4.0, "utilization": 0.04}]
    tables = tables_of(searches=rows)
    assert gain_against_theory(tables) is None
    assert utilization_by_source(tables) is None
    assert scaling_with_vectors(tables) is None
    assert decoding_capacity_per_model(tables) is None


def test_points_are_as_large_as_models_where_all_sizes_are_known():
    rows = [
        {"model": model, "sample_id": "x", "capacity_tokens": 9, "theoretical_tokens": 100.0, "token_gain": 4.0}
        for model in ("a", "b")
    ]
    of_one = [{**rows[0], "num_vectors": k, "theoretical_tokens": 100.0 * k} for k in (1, 2)]
    models = pa.Table.from_pylist([{"model": "a", "num_parameters": 1000}], schema=MODELS)
    (alone,) = traces(gain_against_theory(tables_of(searches=of_one, models=models))).values()
    assert alone.marker.size == PLAIN_SIZE
    for sizes, ratio in (({"a": 1000, "b": 4000}, 2), ({"a": 1000}, 1)):
        known = [{"model": model, "num_parameters": size} for model, size in sizes.items()]
        tables = tables_of(searches=rows, models=pa.Table.from_pylist(known, schema=MODELS))
        found = traces(gain_against_theory(tables))
        assert found["b: files"].marker.size == pytest.approx(ratio * found["a: files"].marker.size)


def test_more_vectors_have_a_panel_for_each_measure_with_band_and_ideal():
    rows = [
        {"model": "a", "num_vectors": k, "capacity_tokens": tokens, "token_gain": tokens / 2}
        | {"information_gain_bits": 2.0 * tokens}
        for k, tokens in ((2, 8), (2, 12), (4, 15))
    ]
    found = traces(scaling_with_vectors(tables_of(searches=rows)))
    assert (found["a: capacity"].x, found["a: capacity"].y) == ((2, 4), (10, 15))
    assert found["a: capacity, mean + sd"].y == pytest.approx((10 + 8**0.5, 15), abs=1e-3)
    assert found["a: capacity, ideal"].y == (10, 20)
    panels = [found[f"a: {measure}"].xaxis for measure in ("capacity", "token gain", "information gain")]
    assert panels == ["x", "x2", "x3"]


class TestGrid:
    """Two models on a grid of two lengths, three texts each."""

    @pytest.fixture(scope="class")
    def grid(self) -> ReportTables:
        shares = {("a", 10): (1.0, 1.0, 1.0), ("a", 20): (0.5, 1.0, 0.6), ("b", 10): (1.0,) * 3, ("b", 20): (1.0,) * 3}
        searches = [{"model": model, "search_id": model, "grid": [10, 20], "capacity_tokens": 10} for model in "ab"]
        probes = [
            {"model": model, "search_id": model, "sample_id": f"t{text}", "outcome": "lossy", "length": length}
            | {"measured_length": length, "token_accuracy": share, "token_accuracy_without_memory": 0.2}
            | {"nats_without_memory": 9.0, "nats_with_memory": 1.0, "decode_from": "memory"}
            for (model, length), of_texts in shares.items()
            for text, share in enumerate(of_texts)
        ]
        return tables_of(searches=searches, probes=probes)

    def test_accuracy_falls_with_length(self, grid: ReportTables):
        found = traces(accuracy_against_length(grid))
        assert (found["a, files, k = 1"].x, found["a, files, k = 1"].y) == ((10, 20), (1.0, 0.7))
        assert found["b, files, k = 1"].y == (1.0, 1.0)
        assert found["a, files, k = 1"].error_y.array[1] == pytest.approx(0.3, abs=0.01)

    def test_the_model_that_gives_most_back_is_a_star(self, grid: ReportTables):
        (found,) = traces(decoding_capacity_per_model(grid)).values()
        assert (found.x, found.y, found.text) == (("a", "b"), (10, 20), ("10", "20"))
        assert found.marker.symbol == ("circle", "star")


def test_between_memories_the_band_goes_from_least_to_most():
    points = [
        {"model": "m", "from_probe_id": f"p{n}", "to_probe_id": f"q{n}", "share": 0.5, "accuracy": accuracy}
        for n, accuracy in enumerate((0.2, 0.6, 0.7))
    ]
    tables = tables_of(searches=[{}], lines=pa.Table.from_pylist(points, schema=LINES))
    found = traces(accuracy_along_lines(tables))
    assert {name: trace.y for name, trace in found.items()} == {
        "m: least": (0.2,),
        "m: most": (0.7,),
        "m: mean": (0.5,),
    }


class TestPrinted:
    @pytest.fixture(scope="class")
    def drawn(self, generated: Callable[[int, int], ReportTables]) -> dict[str, CaptionedFigure]:
        return {one.name: one for one in figures(generated(36, 72))}

    def test_every_figure_is_as_wide_as_asked_and_bare(self, drawn: dict[str, CaptionedFigure]):
        for one in drawn.values():
            layout = printed(one, 3.3)["layout"]
            assert (layout["width"], "title" in layout) == (317, False), one.name
            assert layout["font"]["size"] == pytest.approx(8 * 96 / 72)
            panels = [each["text"] for each in layout.get("annotations", [])]
            assert not [words for words in panels if words in one.title or words in one.caption.split(". ")]

    def test_panels_stand_above_each_other_in_a_column(self, drawn: dict[str, CaptionedFigure]):
        column, page = (printed(drawn["scaling-with-vectors"], inches)["layout"] for inches in (3.3, 6.75))
        assert [column[axis]["domain"] for axis in ("xaxis", "xaxis2", "xaxis3")] == [[0, 1]] * 3
        assert column["yaxis"]["domain"][0] > column["yaxis2"]["domain"][1] > column["yaxis3"]["domain"][1]
        assert page["yaxis"]["domain"] == page["yaxis3"]["domain"]

    def test_thousands_of_dots_are_thinned_out(self):
        figure = blank_figure("x", "y")
        for name, count in (("many", 3000), ("few", 30)):
            dots = list(range(count))
            figure.add_scatter(x=dots, y=dots, mode="markers", name=name, marker={"color": dots}, text=["t"] * count)
        many, few = printed(CaptionedFigure(name="n", title="t", caption="c", figure=figure))["data"]
        assert (len(many["x"]), len(few["x"])) == (3000 * MOST_DOTS // 3030, 30 * MOST_DOTS // 3030)
        assert many["x"] == many["y"] == many["marker"]["color"]
        assert len(many["text"]) == len(many["x"])

    @pytest.mark.parametrize(("width", "inches"), [("3.3in", 3.3), ("84mm", 84 / 25.4), ("8.4 cm", 8.4 / 2.54)])
    def test_widths(self, width: str, inches: float):
        assert inches_of(width) == pytest.approx(inches)

    @pytest.mark.parametrize("width", ["3.3", "wide", "-3in", "0.1in", "300in", "3.3inches"])
    def test_what_is_no_width_is_refused(self, width: str):
        with pytest.raises(BadInput, match=r"--width: .* Wanted a number and a unit"):
            inches_of(width)


def test_accuracy_over_positions_keeps_sources_and_k_apart():
    rows = [
        {"source": source, "num_vectors": k, "outcome": "lossy", "measured_length": 2}
        | {
            "correct_by_token": packed_bits([True, k == 2]),
            "correct_by_token_without_memory": packed_bits([False, True]),
        }
        for source in ("files:a", "hub:b")
        for k in (1, 2)
        for _ in range(3)
    ]
    found = traces(accuracy_over_positions(tables_of(probes=rows)))
    assert {name: trace.y for name, trace in found.items()} == {
        **{f"m, {kind}, k = 1": (1, 0) for kind in ("files", "hub")},
        **{f"m, {kind}, k = 2": (1, 1) for kind in ("files", "hub")},
        **{f"m, {kind}, without memory": (0, 1) for kind in ("files", "hub")},
    }


def test_success_has_a_panel_for_each_source():
    rows = [
        {"search_id": "s0", "source": source, "outcome": "lossless", "length": 3, "proven_length": 3}
        for source in ("files:a", "hub:b")
    ]
    found = traces(success_against_length(tables_of(searches=[{"capacity_tokens": 3}], probes=rows)))
    assert found["m, files, k = 1: starts lossless"].yaxis == "y"
    assert found["m, hub, k = 1: starts lossless"].yaxis == "y2"


def test_the_ledger_shows_how_many_bits_the_memory_removes(generated):
    drawn = bits_ledger(generated(12, 12))
    ledger = traces(drawn)["small"]
    sizes = dict(zip(ledger.y, ledger.x, strict=True))
    assert sizes["bits the memory removes"] == pytest.approx(0.75 * sizes["the model's bits"], abs=0.1)
    assert drawn is not None
    assert "The memory removes 75%" in drawn.caption


def test_every_series_of_every_figure_has_a_name_of_its_own(generated):
    drawn = figures(generated(36, 108))
    # The run has no grid, of which two figures are.
    assert len(drawn) == len(FIGURES) - 2
    for one in drawn:
        assert traces(one), one.name


def test_what_survives_is_the_bits_of_the_memories_that_do(generated):
    tables = generated(12, 12)
    found = {(one.model, one.format): one for one in survived(tables)}
    small = [row for row in tables.searches.to_pylist() if row["model"].endswith("small")]
    even = sum(row["capacity_bits"] for row in small if row["capacity_tokens"] % 2 == 0)
    four = found["made-up/small", "int4"]
    assert (four.surviving_bits, four.proven_bits) == (even, sum(row["capacity_bits"] for row in small))
    # 32 bytes and a scale of 4 bytes, for 64 values.
    assert four.value_bits == pytest.approx(36 * 8 / 64)
    assert four.bits_per_stored_bit == pytest.approx(even / (len(small) * 36 * 8))
    assert found["made-up/small", "int2"].share == 0
    assert found["made-up/small", "float32"].share == 1
    drawn = traces(bits_that_survive(tables))
    vector = drawn["small, one scale a vector: share"]
    assert dict(zip(vector.x, vector.y, strict=True)) == pytest.approx({2.5: 0, 4.5: four.share, 8.5: 1}, abs=1e-4)


def test_the_bound_is_that_of_the_smallest_angle_and_its_line_is_above_the_dots(generated):
    tables = generated(12, 12)
    assert {(one.angle, one.bound_bits) for one in turned_memories(tables)} == {(10.0, 160.0), (10.0, 320.0)}
    drawn = bound_by_robustness(tables)
    found = traces(drawn)
    assert set(found["small, k = 1: proven"].x) == {10.0}
    line, two = found["small, k = 1: bound"], found["small, k = 2: bound"]
    assert two.y == pytest.approx([2 * bits for bits in line.y], abs=0.11)
    assert list(line.y) == sorted(line.y, reverse=True)
    assert drawn is not None
    # int8 turns by 1 degree; int4 by 16 and int2 by 64, which is further than the figure reaches.
    assert [note.text for note in drawn.figure.layout.annotations] == ["int8"]


def test_memories_of_several_k_have_symbols_of_their_own_beside_their_bounds(generated):
    drawn = bound_by_robustness(generated(24, 24))
    found = {name: trace.marker.symbol for name, trace in traces(drawn).items() if trace.mode == "markers"}
    assert {found[f"small, k = {k}: proven"] for k in (1, 2, 4)} == {"circle", "diamond", "square"}
    assert all(found[f"small, k = {k}: bound by area"] == f"{found[f'small, k = {k}: proven']}-open" for k in (1, 2, 4))
    assert drawn is not None
    in_legend: list[Any] = list(drawn.figure.select_traces({"showlegend": True}))
    key = {trace.name for trace in in_legend}
    assert key >= {f"{what}, k = {k}" for k in (1, 2, 4) for what in ("proven by a memory", "bound by area")}


def test_what_survives_is_a_table_of_a_paper(generated):
    found = exported_tables(generated(12, 12))
    (row,) = [row for row in found["noise"].rows if row[:2] == ("made-up/small", 1)]
    assert row[2:8] == (3, pytest.approx(48.0), 10.0, 10.0, 10.0, 160.0)
    # Areas of 2^-160, 2^-159 and 2^-158: their mean is 7/3 of the first.
    assert row[8:] == (pytest.approx(160 - log(7 / 3, 2)), 0)
    assert {row[1] for row in found["quantized"].rows} >= {"float32", "int8", "int4/32"}
