"""Success by length: known rows, known answers."""

from typing import Any

import pyarrow as pa
import pytest

from orchestrator.report.success import SuccessBin, reach_by_length, success_by_length
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SEARCHES

PLAIN = {"model": "m", "source": "files:a.txt", "num_vectors": 1}


def searches_of(*rows: dict[str, Any]) -> pa.Table:
    asked = [{**PLAIN, "search_id": f"search-{n}", "status": "measured", **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(asked, schema=SEARCHES)


def success(*rows: dict[str, Any], grid: list[int] | None = None) -> list[SuccessBin]:
    """Success of these probes of one search."""
    plain = {**PLAIN, "search_id": "search-0", "outcome": "lossless"}
    probes = pa.Table.from_pylist([{**plain, "number": n, **row} for n, row in enumerate(rows)], schema=PROBES)
    return success_by_length(probes, searches_of({"grid": grid}))


class TestSuccessByLength:
    def test_lossless_up_to_the_proven_length_and_lossy_at_the_failed_one(self):
        bins = success(
            {"proven_length": 3, "failed_length": 4},
            {"proven_length": 5, "failed_length": None},
            {"proven_length": 0, "failed_length": 2, "outcome": "lossy"},
        )
        assert [(one.shortest, one.longest) for one in bins] == [(n, n) for n in range(1, 6)]
        assert [one.share for one in bins] == [1.0, pytest.approx(2 / 3), 1.0, 0.5, 1.0]
        assert [one.num_probes for one in bins] == [2, 3, 2, 2, 1]

    def test_wide_bins_count_each_probe_once(self):
        bins = success({"proven_length": 27}, {"proven_length": 0, "failed_length": 26})
        assert (bins[-1].shortest, bins[-1].longest) == (27, 28)
        by_start = {one.shortest: one for one in bins}
        # Lengths 25 and 26: one probe proved both, the other failed at the one it tried.
        assert (by_start[25].share, by_start[25].num_probes) == (0.5, 2)

    def test_a_probe_that_proves_half_a_bin_counts_half(self):
        bins = success({"proven_length": 29, "failed_length": 30})
        assert bins[-1].share == 0.5

    def test_each_text_counts_once_however_many_starts_it_took(self):
        (found,) = success(
            {"sample_id": "a", "length": 1, "proven_length": 1},
            *({"sample_id": "b", "length": 1, "outcome": "lossy"} for _ in range(5)),
            grid=[1],
        )
        assert (found.share, found.num_probes, found.num_texts) == (0.5, 6, 2)
        # One of two texts: Wilson.
        assert found.interval == pytest.approx((0.0945, 0.9055), abs=1e-4)

    def test_failures_of_the_machine_count_nowhere(self):
        assert success({"outcome": "failed", "failed_length": 5}) == []

    def test_models_sources_and_vectors_apart(self):
        bins = success(
            {"proven_length": 1},
            {"model": "n", "proven_length": 1},
            {"num_vectors": 2, "proven_length": 1},
            {"source": "hub:b", "proven_length": 1},
        )
        assert [one.group for one in bins] == [("m", "files", 1), ("m", "files", 2), ("m", "hub", 1), ("n", "files", 1)]

    def test_a_grid_does_not_count_lengths_it_did_not_ask(self):
        rows = [
            {"length": 16, "proven_length": 16},
            {"length": 64, "proven_length": 64},
            {"length": 64, "proven_length": 20, "outcome": "lossy", "failed_length": 64},
        ]
        bins = success(*rows, grid=[16, 64])
        assert [(one.shortest, one.longest, one.share, one.num_probes) for one in bins] == [
            (16, 16, 1, 1),
            (64, 64, 0.5, 2),
        ]

    def test_lengths_drawn_at_random_share_bins(self):
        bins = success(*({"length": length, "proven_length": length} for length in range(1, 31)), grid=[1])
        assert [(one.shortest, one.longest, one.num_probes) for one in bins] == [(n, n + 1, 2) for n in range(1, 31, 2)]


class TestReachByLength:
    def test_without_censoring_it_is_the_share_of_searches(self):
        points = reach_by_length(searches_of(*({"capacity_tokens": capacity} for capacity in (2, 4, 4, 8))))
        assert [(point.length, point.share) for point in points] == [(0, 1.0), (3, 0.75), (5, 0.25), (9, 0.0)]

    def test_a_text_that_ended_is_no_failure(self):
        points = reach_by_length(
            searches_of({"capacity_tokens": 2}, {"capacity_tokens": 4, "status": "at_text_end"}, {"capacity_tokens": 6})
        )
        shares = [(point.length, pytest.approx(point.share)) for point in points]
        assert shares == [(0, 1.0), (3, 2 / 3), (7, 0.0)]

    def test_a_text_that_ended_at_a_length_is_not_at_risk_there(self):
        points = reach_by_length(
            searches_of({"capacity_tokens": 4}, {"capacity_tokens": 4, "status": "at_text_end"}, {"capacity_tokens": 6})
        )
        assert [(point.length, point.share) for point in points] == [(0, 1.0), (5, 0.5), (7, 0.0)]

    def test_without_a_search_that_measured_it_stays_at_one(self):
        points = reach_by_length(searches_of({"capacity_tokens": 5, "status": "at_text_end"}))
        assert [(point.length, point.share) for point in points] == [(0, 1.0), (5, 1.0)]
