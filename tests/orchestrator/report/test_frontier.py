"""The frontier: what searches held at a cost, worked out by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.report.figures.canvas import PANEL_TITLE_PIXELS, CaptionedFigure, ReportTables
from orchestrator.report.figures.frontier import frontier_by_steps, frontier_by_trained_tokens
from orchestrator.report.frontier import Curve, FrontierLine, curve_of, frontier
from orchestrator.report.intervals import bootstrap_mean, bootstrap_means
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES, SEARCHES

FIRST: dict[str, Any] = {
    "number": 0,
    "steps": 100,
    "trained_tokens": 500,
    "exact_prefix": 2,
    "proven_length": 2,
    "memory_shape": [1, 4],
    "steps_by_length": [0, 10, 60],
    "trained_tokens_by_length": [0, 30, 250],
    "certified_steps": [50, 100],
    "certified_trained_tokens": [200, 500],
    "certified_lengths": [2, 2],
}
"""Reached 3 tokens, of which 2 came out when its memory was decoded."""
SECOND: dict[str, Any] = {
    "number": 1,
    "steps": 50,
    "trained_tokens": 200,
    "exact_prefix": 4,
    "proven_length": 4,
    "memory_shape": [1, 4],
    "steps_by_length": [0, 5, 6, 40],
    "trained_tokens_by_length": [0, 15, 20, 160],
    "certified_steps": [50],
    "certified_trained_tokens": [200],
    "certified_lengths": [4],
    "nats_by_token_without_memory": [math.log(2) * bits for bits in (8, 4, 2, 2)],
}


def line_of(lines: list[FrontierLine], measure: str, proof: str) -> list[tuple[int, float]]:
    (line,) = [line for line in lines if (line.measure, line.proof) == (measure, proof)]
    return [(point.cost, point.mean) for point in line.points]


def tables(*starts: dict[str, Any], searches: list[dict[str, Any]] | None = None) -> tuple[pa.Table, pa.Table]:
    shared = {"model": "m", "source": "pg19:a", "num_vectors": 1, "task": "cramming"}
    question = {"criterion": "exact", "decode_from": "memory"}
    asked = searches or [{"search_id": "s", "sample_id": "t", "status": "measured"}]
    return (
        pa.Table.from_pylist(
            [{"search_id": "s", "outcome": "lossless", **shared, **start} for start in starts], schema=PROBES
        ),
        pa.Table.from_pylist([{**shared, **question, **search} for search in asked], schema=SEARCHES),
    )


class TestStartsAddUp:
    """A start begins at what the starts before it cost in all, and the best of them so far counts."""

    def test_reached_counts_what_any_start_has_reached_by_then(self):
        curve = curve_of([FIRST, SECOND], "steps", "reached")
        assert [curve.at(cost) for cost in (0, 9, 10, 60, 139, 140, 9999)] == [1, 1, 2, 3, 3, 4, 4]
        assert curve.spent == 150

    def test_certified_counts_what_memories_kept_by_then_gave_back(self):
        curve = curve_of([FIRST, SECOND], "steps", "certified")
        assert [curve.at(cost) for cost in (0, 49, 50, 60, 139, 140)] == [0, 0, 2, 2, 2, 4]

    def test_trained_tokens_are_added_like_steps(self):
        assert curve_of([FIRST, SECOND], "trained_tokens", "reached").at(659) == 3
        assert curve_of([FIRST, SECOND], "trained_tokens", "reached").at(660) == 4
        assert curve_of([FIRST, SECOND], "trained_tokens", "certified").at(660) == 4

    def test_a_start_without_any_token_costs_and_gives_nothing(self):
        lossy = {"steps": 30, "trained_tokens": 240, "exact_prefix": 0}
        curve = curve_of([{**dict.fromkeys(FIRST), **lossy}, SECOND], "steps", "reached")
        assert [curve.at(cost) for cost in (29, 30, 70)] == [0, 1, 4]


class TestCensoring:
    def test_a_search_that_stalled_keeps_its_value(self):
        assert not Curve(costs=(5,), lengths=(3,), spent=10).is_censored(10_000)

    def test_one_that_was_ended_is_known_as_far_as_it_went(self):
        curve = Curve(costs=(5,), lengths=(3,), spent=10, is_over=False)
        assert [curve.is_censored(cost) for cost in (10, 11)] == [False, True]

    def test_one_at_its_limit_might_have_held_more(self):
        curve = Curve(costs=(5, 8), lengths=(3, 9), spent=10, limit=9)
        assert [curve.is_censored(cost) for cost in (7, 8, 10_000)] == [False, True, True]

    def test_the_status_of_a_search_decides(self):
        searches = [
            {"search_id": "s", "sample_id": "t", "status": "measured", "limit": 4},
            {"search_id": "u", "sample_id": "u", "status": "at_text_end", "limit": 4},
            {"search_id": "v", "sample_id": "v", "status": "open", "limit": 9},
            {"search_id": "w", "sample_id": "w", "status": "open", "limit": 9},
        ]
        starts = [{**start, "search_id": name} for name in "suv" for start in (FIRST, SECOND)]
        failed = {"search_id": "w", "number": 0, "outcome": "failed"}
        lines = frontier(*tables(*starts, failed, searches=searches), "steps", [100, 140, 200])
        (line,) = [line for line in lines if (line.measure, line.proof) == ("tokens", "certified")]
        assert [point.num_censored for point in line.points] == [0, 1, 2]
        assert line.num_searches == 3  # of the fourth nothing is known
        assert line.is_claim


class TestMeasures:
    def test_bits_are_those_of_the_certified_tokens_and_spread_over_the_memory(self):
        lines = frontier(*tables(FIRST, SECOND), "steps", [50, 140])
        assert line_of(lines, "tokens", "reached") == [(50, 2), (140, 4)]
        assert line_of(lines, "bits", "certified") == [(50, pytest.approx(12)), (140, pytest.approx(16))]
        assert line_of(lines, "bits_per_dimension", "certified") == [(50, pytest.approx(3)), (140, pytest.approx(4))]

    def test_a_criterion_of_teacher_forcing_certifies_nothing(self):
        searches = [{"search_id": "s", "sample_id": "t", "status": "measured", "criterion": "teacher_forced>=0.99"}]
        lines = frontier(*tables(FIRST, SECOND, searches=searches), "steps", [140])
        assert {(line.proof, line.measure) for line in lines if line.is_claim} == {
            ("reached", measure) for measure in ("tokens", "bits", "bits_per_dimension")
        }

    def test_before_any_memory_was_decoded_nothing_is_said_of_certified_tokens(self):
        lines = frontier(*tables(FIRST, SECOND), "steps", [49, 50])
        assert line_of(lines, "tokens", "reached") == [(49, 2), (50, 2)]
        assert line_of(lines, "tokens", "certified") == [(50, 2)]
        assert {line.proof for line in frontier(*tables(FIRST, SECOND), "steps", [49])} == {"reached"}

    def test_without_numbers_by_token_there_are_no_bits(self):
        lines = frontier(*tables(FIRST, {**SECOND, "nats_by_token_without_memory": None}), "steps", [140])
        assert {line.measure for line in lines} == {"tokens"}

    def test_rows_without_curves_are_left_out(self):
        assert frontier(*tables({**FIRST, "steps_by_length": None}), "steps") == []

    def test_each_cost_has_the_interval_of_its_own_mean(self):
        values = [[1.0, 4.0], [5.0, 0.0], [9.0, 2.0], [2.0, 2.0]]
        clusters = ["a", "b", "c", "c"]
        alone = [bootstrap_mean([row[column] for row in values], clusters) for column in (0, 1)]
        assert bootstrap_means(np.array(values), clusters) == alone


class TestFigures:
    def test_censored_costs_are_drawn_as_a_bound(self):
        searches = [{"search_id": "s", "sample_id": "t", "status": "at_text_end", "limit": 4}]
        drawn = frontier_by_steps(report(*tables(FIRST, SECOND, searches=searches)))
        assert drawn is not None
        found = {trace.name: trace for trace in traces_of(drawn)}
        bound = found["m, tokens certified, lower bound"]
        assert (bound.x[-1], bound.y[-1]) == (150, 4)
        assert max(found["m, tokens certified"].x) < 150
        assert "Pale" in drawn.caption

    def test_published_points_stand_beside_the_same_model_and_task(self):
        searches = [{"search_id": "s", "sample_id": "t", "status": "measured", "model": "HuggingFaceTB/SmolLM2-1.7B"}]
        drawn = frontier_by_steps(report(*tables(FIRST, SECOND, searches=searches)))
        assert drawn is not None
        points = {trace.name: (trace.x, trace.y) for trace in traces_of(drawn) if "published: " in (trace.name or "")}
        assert points["published: SmolLM2-1.7B, baseline +1 token, 8,825 steps"] == ((8825,), (334,))
        assert len(points) == 8
        other = frontier_by_steps(report(*tables(FIRST, SECOND, searches=[{**searches[0], "num_vectors": 2}])))
        assert other is not None
        assert "published" not in other.caption

    def test_one_text_has_no_bands_and_no_words_about_them(self):
        drawn = frontier_by_steps(report(*tables(FIRST, SECOND)))
        assert drawn is not None
        assert not [trace for trace in traces_of(drawn) if "95 %" in (trace.name or "")]
        assert "Bands" not in drawn.caption

    def test_a_line_of_a_single_point_is_a_dot(self):
        """As where every text ended before the first memory was decoded."""
        short = {"steps": 5, "steps_by_length": [0, 3], "certified_steps": [], "certified_lengths": []}
        searches = [{"search_id": "s", "sample_id": "t", "status": "at_max_length", "limit": 2}]
        start = {**FIRST, **short, "certified_trained_tokens": [], "trained_tokens": 9, "exact_prefix": 2}
        drawn = frontier_by_trained_tokens(report(*tables(start, searches=searches)))
        assert drawn is not None
        alone = [trace for trace in traces_of(drawn) if len(trace.x) == 1 and trace.x[0] is not None]
        assert alone
        assert {trace.mode for trace in alone} == {"markers"}

    def test_the_legend_stands_above_the_title_of_the_first_panel(self):
        drawn = frontier_by_steps(report(*tables(FIRST, SECOND)))
        assert drawn is not None
        layout = drawn.figure.layout
        assert (layout.legend.y - 1) * layout.meta >= PANEL_TITLE_PIXELS - 1e-6

    def test_both_costs_have_a_figure(self):
        drawn = frontier_by_trained_tokens(report(*tables(FIRST, SECOND)))
        assert drawn is not None
        assert drawn.name == "frontier-by-trained-tokens"
        assert max(traces_of(drawn)[0].x) == 700


def report(probes: pa.Table, searches: pa.Table) -> ReportTables:
    return ReportTables(probes=probes, searches=searches, samples=SAMPLES.empty_table())


def traces_of(drawn: CaptionedFigure) -> list[Any]:
    return list(drawn.figure.select_traces())


class TestCommand:
    def test_the_capacity_at_a_number_of_steps_is_printed_and_no_page_written(
        self, toy_sweep: Path, finished: Callable[..., Path], capsweep: Callable[..., Any]
    ):
        run = finished(toy_sweep)
        ended = capsweep("report", run, "--at-steps", 1, "--at-steps", 1_000_000)
        assert ended.returncode == 0, ended.stderr
        few, many = [line.split() for line in ended.stdout.splitlines() if "model" in line]
        assert (few[0], many[0]) == ("1", "1,000,000")
        assert few[3:5] == ["-", "0.0"]
        assert float(many[3]) > 10
        assert not (run / "report").exists()
