"""The head of a page: what a run was and cost."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from orchestrator.report.facts import facts
from orchestrator.store.probe_columns import PROBES

SESSION = {
    "session_id": "first",
    "started_at": "2026-11-26T06:00:00+00:00",
    "ended_at": "2026-11-26T06:20:00+00:00",
    "processor": "a processor",
    "cores": 2,
    "git_commit": "e77c59cc0b0ab38792e5",
    "versions": {"capsweep": "0.1.0"},
}


def probes(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{"device": "cpu", **row} for row in rows], schema=PROBES)


def test_a_run_of_two_sessions_of_which_one_has_no_end():
    cut_short = {**SESSION, "session_id": "second", "started_at": "2026-11-27T08:00:00+00:00", "ended_at": None}
    rows = probes(
        {"session_id": "first", "seconds": 1800.0, "steps": 1200, "trained_tokens": 3400},
        {"session_id": "second", "seconds": 900.0, "steps": 34, "trained_tokens": 600}
        | {"finished_at": datetime(2026, 11, 27, 8, 30, tzinfo=UTC)},
        {"session_id": "second", "seconds": None, "device": "cuda:0"},
    )
    assert facts(rows, {"sessions": [SESSION, cut_short], "notes": []}) == [
        ("Date", "2026-11-26 06:00 to 2026-11-27 08:00 UTC"),
        ("Wall time", "50 min in 2 sessions"),
        ("Hardware", "a processor, 2 cores; computed on cpu, cuda:0"),
        ("Cost", "0.75 engine hours; 1,234 optimizer steps; 4,000 trained tokens"),
        ("Made with", "capsweep 0.1.0 at e77c59cc0b"),
    ]


def test_of_several_runs_the_sessions_are_counted_together():
    found = dict(facts(probes(), {"one": {"sessions": [SESSION]}, "two": {"sessions": [SESSION]}}))
    assert found["Wall time"] == "40 min in 2 sessions"
    assert "Cost" not in found


def test_where_nothing_was_recorded_there_are_no_facts():
    assert facts(probes(), {}) == []


def test_runs_of_earlier_versions_name_the_kind_of_machine():
    earlier = {name: value for name, value in SESSION.items() if name not in ("processor", "cores")}
    assert dict(facts(probes({}), {"sessions": [{**earlier, "machine": "x86_64"}]}))["Hardware"] == (
        "x86_64; computed on cpu"
    )
