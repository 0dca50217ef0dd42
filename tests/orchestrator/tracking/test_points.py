import pyarrow as pa
import pytest

from orchestrator.store.schema import SEARCHES
from orchestrator.tracking.points import points_of, summary_of, summary_page

MEASURED = {
    **dict.fromkeys(SEARCHES.names),
    "search_id": "a1",
    "task": "cramming",
    "model": "EleutherAI/pythia-160m",
    "sample_id": "s1",
    "source": "files:one.txt",
    "num_vectors": 4,
    "seed": 0,
    "criterion": "exact",
    "status": "measured",
    "capacity_tokens": 120,
    "capacity_bits": 400.0,
    "token_gain": 110.0,
    "probes": 3,
    "steps": 50,
    "trained_tokens": 5000,
    "seconds": 2.0,
}


def searches(*changes: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist([{**MEASURED, **each} for each in changes], schema=SEARCHES)


def test_a_point_has_the_numbers_of_its_search_under_the_name_of_its_group():
    (point,) = points_of(searches({}), without=())
    assert point.values["capacity_tokens/pythia-160m k4"] == 120.0
    assert point.values["trained_tokens/pythia-160m k4"] == 5000.0
    assert point.labels["source"] == "files:one.txt"
    assert point.labels["seed"] == 0


def test_what_was_not_measured_is_left_out_not_zero():
    (point,) = points_of(searches({"margin": None, "utilization": None}), without=())
    assert not [name for name in point.values if name.startswith(("margin", "utilization"))]


def test_searches_that_may_still_be_measured_have_no_point():
    table = searches({}, {"search_id": "b2", "status": "open"}, {"search_id": "c3", "status": "failed"})
    assert [point.search_id for point in points_of(table, without=())] == ["a1"]


def test_known_searches_are_left_out():
    table = searches({}, {"search_id": "b2", "status": "at_text_end"})
    assert [point.search_id for point in points_of(table, without={"a1"})] == ["b2"]


def test_models_of_one_name_keep_what_tells_them_apart():
    table = searches({}, {"search_id": "b2", "model": "mine/pythia-160m"})
    groups = {name.partition("/")[2] for point in points_of(table, without=()) for name in point.values}
    assert groups == {"EleutherAI/pythia-160m k4", "mine/pythia-160m k4"}


def test_a_secret_in_a_name_is_not_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    (point,) = points_of(searches({"source": "files:hf_0123456789.txt"}), without=())
    assert point.labels["source"] == "files:[redacted].txt"


def test_the_summary_counts_statuses_and_takes_means_over_what_is_measured():
    table = searches(
        {},
        {"search_id": "b2", "sample_id": "s2", "capacity_tokens": 80},
        {"search_id": "c3", "status": "failed", "capacity_tokens": None},
    )
    summary = summary_of(table)
    assert summary["searches"] == 3
    assert summary["searches_measured"] == 2
    assert summary["searches_failed"] == 1
    assert summary["total_probes"] == 9
    assert summary["mean_tokens/pythia-160m k4 files"] == 100
    assert "| mean_tokens/pythia-160m k4 files | 100 |" in summary_page(summary)
