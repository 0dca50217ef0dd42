"""Rows that count are on disk, once; what they give for a search; memories that later probes begin from.

Long, as each promise of the recorder has its test here.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.runs.session import new_recorder
from orchestrator.search.policy import SearchSettings
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.lock import LostLockError, RunLock
from orchestrator.store.parquet import PROBE_FOLDER, read_probes
from orchestrator.store.probe_columns import PROBES, rows_table
from orchestrator.store.recorder import Recorder
from orchestrator.store.schema import SEARCHES
from orchestrator.store.searches import derive_searches, theoretical_tokens
from tasks.facts import ModelFacts
from tasks.values import Finished
from tests.orchestrator.store.outcomes import CONTEXT, failed, measured, memory_of, probe

SETTINGS = SearchSettings(retries=1)


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


@pytest.fixture
def recorder(files: LocalFiles) -> Recorder:
    return Recorder(files, CONTEXT)


@pytest.fixture
def next_session(files: LocalFiles) -> Callable[[], Recorder]:
    return lambda: Recorder(files, replace(CONTEXT, session_id="second"))


def row_files(files: LocalFiles) -> list[str]:
    return files.names(PROBE_FOLDER, suffix=".parquet")


class TestRows:
    def test_a_file_has_exactly_the_columns_of_probes(self, recorder, files, tmp_path):
        recorder.record([measured(probe(), proven=9, failed=10), failed(probe(1))])
        (name,) = row_files(files)
        assert pq.read_schema(tmp_path / name).equals(PROBES)
        assert name.startswith("probes/first-")

    def test_a_verdict_comes_back_as_it_was_recorded(self, recorder, files):
        recorder.record([measured(probe(2, length=8, start="search/0"), proven=9, failed=10)])
        (row,) = read_probes(files).to_pylist()
        assert (row["search_id"], row["probe_id"], row["number"], row["attempt"]) == ("search", "search/2", 2, 0)
        assert (row["model"], row["source"], row["seed"], row["start"]) == ("some/model", "files:a.txt", 7, "search/0")
        assert (row["outcome"], row["reason"], row["length"]) == ("lossless", None, 8)
        assert (row["proven_length"], row["exact_prefix"], row["failed_length"]) == (9, 9, 10)
        assert (row["memory"], row["memory_shape"], row["memory_dtype"]) == (memory_of(9), [1, 2], "float32")
        assert (row["criterion"], row["recipe"], row["session_id"]) == ("exact", '{"steps": 10}', "first")
        assert row["finished_at"].timestamp() - row["started_at"].timestamp() == 1.5

    def test_a_failure_has_a_reason_and_no_measurement(self, recorder, files):
        recorder.record([failed(probe(), "out of device memory")])
        (row,) = read_probes(files).to_pylist()
        assert (row["outcome"], row["reason"]) == ("failed", "out of device memory")
        for name in ("proven_length", "exact_prefix", "failed_length", "nats_with_memory", "token_accuracy", "memory"):
            assert row[name] is None

    def test_a_reason_holds_no_secret(self, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_PLANTEDplanted")
        rows = rows_table(CONTEXT, [failed(probe(), "refused hf_PLANTEDplanted")])
        assert rows["reason"].to_pylist() == ["refused [redacted]"]

    def test_what_is_recorded_together_is_one_file(self, recorder, files):
        recorder.record([measured(probe(number), proven=8) for number in range(5)])
        assert len(row_files(files)) == 1
        assert read_probes(files).num_rows == 5

    def test_nothing_makes_no_file(self, recorder, files):
        recorder.record([])
        assert row_files(files) == []


class TestOnce:
    def test_a_verdict_that_is_recorded_again_is_not_written(self, recorder, files):
        recorder.record([measured(probe(), proven=9)])
        recorder.record([measured(probe(), proven=9)])
        recorder.record([measured(probe(), proven=4), measured(probe(1), proven=10)])
        assert len(row_files(files)) == 2
        rows = read_probes(files).to_pylist()
        assert sorted((row["probe_id"], row["proven_length"]) for row in rows) == [("search/0", 9), ("search/1", 10)]

    def test_twice_in_one_call(self, recorder, files, tmp_path):
        recorder.record([measured(probe(), proven=9), measured(probe(), proven=9)])
        assert sum(pq.read_metadata(tmp_path / name).num_rows for name in row_files(files)) == 1

    @pytest.mark.parametrize("verdict_first", [True, False])
    def test_a_verdict_counts_though_a_failure_was_recorded_too(self, recorder, next_session, files, verdict_first):
        outcomes = [measured(probe(), proven=9), failed(probe())]
        recorder.record(outcomes[:1] if verdict_first else outcomes[1:])
        next_session().record(outcomes[1:] if verdict_first else outcomes[:1])
        assert read_probes(files, ("outcome",)).to_pylist() == [{"outcome": "lossless"}]

    def test_every_attempt_that_failed_is_written(self, recorder, files):
        recorder.record([failed(probe(attempt=0))])
        recorder.record([failed(probe(attempt=1))])
        recorder.record([measured(probe(attempt=2), proven=9)])
        rows = sorted(read_probes(files).to_pylist(), key=lambda row: row["attempt"])
        assert [row["outcome"] for row in rows] == ["failed", "failed", "lossless"]
        assert recorder.recorded(["search/0", "search/1"])[0].proven_length == 9

    def test_readers_drop_rows_that_lie_in_two_files(self, recorder, next_session, files):
        recorder.record([measured(probe(), proven=9), failed(probe(1, attempt=0))])
        next_session().record([measured(probe(), proven=9), failed(probe(1, attempt=1))])
        assert len(row_files(files)) == 2
        rows = read_probes(files, ("probe_id", "attempt")).to_pylist()
        assert sorted((row["probe_id"], row["attempt"]) for row in rows) == [
            ("search/0", 0),
            ("search/1", 0),
            ("search/1", 1),
        ]

    def test_the_columns_asked_for_are_the_columns_given(self, recorder, files):
        recorder.record([measured(probe(), proven=9)])
        assert read_probes(files, ("memory", "length")).column_names == ["memory", "length"]

    def test_no_rows_yet(self, files):
        assert read_probes(files).equals(PROBES.empty_table())


class TestALostLock:
    def test_a_session_that_was_taken_over_writes_nothing(self, files, tmp_path, monkeypatch):
        monkeypatch.setattr("orchestrator.store.lock.SETTLE_SECONDS", 0)
        lock = RunLock(files, "first")
        lock.take()
        recorder = new_recorder(str(tmp_path), CONTEXT)
        recorder.record([measured(probe(0), proven=9)])
        thief = RunLock(files, "second")
        thief.take(take_over=True)
        before = row_files(files)
        with pytest.raises(LostLockError, match="session first has lost this run"):
            recorder.record([measured(probe(1), proven=10)])
        lock.release()
        assert row_files(files) == before
        assert recorder.recorded(["search/0", "search/1"]) == recorder.recorded(["search/0"])
        new_recorder(str(tmp_path), replace(CONTEXT, session_id="second")).record([measured(probe(1), proven=10)])
        assert len(row_files(files)) == 2
        thief.release()

    def test_nor_does_one_whose_lock_is_gone(self, files, tmp_path):
        with pytest.raises(LostLockError):
            new_recorder(str(tmp_path), CONTEXT).record([measured(probe(), proven=9)])
        assert row_files(files) == []

    def test_a_row_that_could_not_be_written_does_not_count(self, recorder, files, monkeypatch):
        def full(self: Path, target: Path) -> Path:
            raise OSError("no space left")

        with monkeypatch.context() as broken:
            broken.setattr(Path, "replace", full)
            with pytest.raises(OSError, match="no space left"):
                recorder.record([measured(probe(), proven=9)])
        assert recorder.recorded(["search/0"]) == []
        recorder.record([measured(probe(), proven=9)])
        assert read_probes(files).num_rows == 1


class TestMemories:
    def test_a_cold_probe_needs_none(self, recorder):
        assert recorder.give_memory(probe()).start_memory is None

    def test_a_warm_one_gets_that_of_the_best_probe(self, recorder, monkeypatch):
        recorder.record([measured(probe(0), proven=9, failed=10)])
        recorder.record([measured(probe(1, length=10), proven=12, failed=14)])
        recorder.record([measured(probe(2, length=13), proven=5, failed=13)])

        def no_reading(*arguments: Any) -> pa.Table:
            raise AssertionError("the best memory of this session is not read from disk")

        monkeypatch.setattr("orchestrator.store.recorder.read_probes", no_reading)
        assert recorder.give_memory(probe(3, start="search/1")).start_memory == memory_of(12)

    def test_one_of_an_earlier_session_comes_from_disk(self, recorder, next_session):
        recorder.record([measured(probe(0), proven=9, failed=10), measured(probe(1, length=10), proven=12, failed=14)])
        second = next_session()
        assert second.give_memory(probe(2, start="search/1")).start_memory == memory_of(12)
        assert second.give_memory(probe(2, start="search/0")).start_memory == memory_of(9)

    def test_searches_do_not_mix(self, recorder, next_session):
        recorder.record([measured(probe(0), proven=9), measured(probe(0, search="other"), proven=20)])
        for asked in (recorder, next_session()):
            assert asked.give_memory(probe(1, start="search/0")).start_memory == memory_of(9)
            assert asked.give_memory(probe(1, start="other/0", search="other")).start_memory == memory_of(20)

    def test_a_memory_that_no_row_holds(self, recorder):
        recorder.record([measured(probe(0), proven=0, failed=8)])
        with pytest.raises(KeyError, match="search/0"):
            recorder.give_memory(probe(1, start="search/0"))


def derived(*probes: Finished, limit: int = 30, limit_status: str = "at_text_end") -> dict[str, Any]:
    """The one row of the searches table after these probes; k d b / log2 V is 1 x 2 x 16 / 4 = 8 tokens."""
    planned = {
        "search_id": "search",
        "model": "some/model",
        "sample_id": "sample",
        "num_vectors": 1,
        "seed": 7,
        "limit": limit,
        "limit_status": limit_status,
        "status": "open",
        "theoretical_tokens": 8.0,
    }
    table = derive_searches(pa.Table.from_pylist([planned], schema=SEARCHES), rows_table(CONTEXT, probes), SETTINGS)
    assert table.schema.equals(SEARCHES)
    (row,) = table.to_pylist()
    return row


class TestSearches:
    def test_measures_of_a_measured_search(self):
        row = derived(
            measured(probe(0, length=8), proven=12, failed=13),
            measured(probe(1, length=13, start="search/0"), proven=0, failed=13),
        )
        assert (row["capacity_tokens"], row["status"], row["smallest_failed"]) == (12, "measured", 13)
        assert row["capacity_nats"] == 36.0
        assert row["capacity_bits"] == pytest.approx(36.0 / math.log(2))
        assert row["bits_per_dimension"] == pytest.approx(36.0 / math.log(2) / 2)  # one vector of two values
        assert row["token_gain"] == pytest.approx(12 * (1.0 - 0.25))
        assert row["information_gain_nats"] == pytest.approx(36.0 - 6.0)
        assert row["information_gain_bits"] == pytest.approx(30.0 / math.log(2))
        assert row["utilization"] == pytest.approx(9.0 / 8.0)
        assert (row["margin"], row["probe_id"]) == (0.125, "search/0")
        assert (row["token_accuracy"], row["token_accuracy_without_memory"], row["first_error"]) == (1.0, 0.25, None)

    def test_accuracies_and_first_error_are_those_of_the_best_probe(self):
        found = {"token_accuracy": 0.75, "first_error": 6, "measured_length": 8}
        row = derived(measured(probe(0, length=8), proven=5, failed=8, **found), measured(probe(1), proven=0, failed=6))
        assert (row["token_accuracy"], row["token_accuracy_without_memory"], row["first_error"]) == (0.75, 0.25, 6)
        assert derived(measured(probe(0), proven=0, failed=8))["token_accuracy"] is None

    def test_costs_are_summed_over_all_probes(self):
        row = derived(
            measured(probe(0, length=8), proven=12, failed=13),
            failed(probe(1, length=13)),
            measured(probe(1, length=13, attempt=1), proven=0, failed=13),
        )
        assert (row["probes"], row["steps"], row["trained_tokens"], row["seconds"]) == (3, 200, 100 * (12 + 13), 3.0)
        # The machine failed under the second start; that is no further start.
        assert row["restarts"] == 1

    def test_the_best_probe_counts_not_the_last(self):
        row = derived(measured(probe(1, length=10), proven=14, failed=15), measured(probe(0), proven=9, failed=10))
        assert (row["capacity_tokens"], row["probe_id"], row["smallest_failed"]) == (14, "search/1", 15)
        assert row["capacity_nats"] == 3.0 * 14

    def test_a_lossy_probe_that_proved_something_on_the_way_counts(self):
        row = derived(measured(probe(0, length=8), proven=5, failed=8))
        assert (row["capacity_tokens"], row["status"], row["token_gain"]) == (5, "open", 5 - 1)

    @pytest.mark.parametrize("status", ["at_text_end", "at_max_length", "at_model_limit"])
    def test_a_search_that_reached_its_limit_has_the_status_of_that_limit(self, status):
        row = derived(measured(probe(0), proven=12), limit=12, limit_status=status)
        assert (row["capacity_tokens"], row["status"], row["smallest_failed"]) == (12, status, None)

    def test_without_rows_a_search_is_open_and_nothing_is_known(self):
        row = derived()
        assert (row["status"], row["probes"], row["steps"]) == ("open", 0, 0)
        assert (row["capacity_tokens"], row["token_gain"], row["utilization"], row["probe_id"]) == (None,) * 4

    def test_with_failed_rows_only_it_has_no_capacity(self):
        row = derived(*[failed(probe(0, attempt=attempt)) for attempt in range(3)])
        assert (row["status"], row["probes"]) == ("failed", 3)
        for name in ("capacity_tokens", "capacity_nats", "capacity_bits", "token_gain", "information_gain_nats"):
            assert row[name] is None
        assert (row["utilization"], row["margin"], row["probe_id"]) == (None, None, None)

    def test_probes_that_proved_nothing_give_a_capacity_of_0(self):
        row = derived(measured(probe(0), proven=0, failed=8), measured(probe(1, length=1), proven=0, failed=1))
        assert (row["capacity_tokens"], row["status"], row["smallest_failed"]) == (0, "measured", 1)
        for name in ("capacity_nats", "capacity_bits", "bits_per_dimension", "token_gain", "utilization"):
            assert row[name] == 0.0
        assert (row["margin"], row["probe_id"]) == (None, None)

    def test_the_machine_may_fail_after_a_proof(self):
        row = derived(measured(probe(0), proven=9, failed=10), *[failed(probe(1, attempt=n)) for n in range(3)])
        assert (row["status"], row["capacity_tokens"]) == ("failed", 9)

    def test_they_keep_their_order(self):
        planned = pa.Table.from_pylist(
            [
                {"search_id": name, "model": "m", "sample_id": "s", "num_vectors": 1, "seed": 0, "limit": 9}
                | {"limit_status": "at_text_end", "theoretical_tokens": 8.0}
                for name in ("search", "a", "other")
            ],
            schema=SEARCHES,
        )
        rows = rows_table(CONTEXT, [measured(probe(0, search="other"), proven=9)])
        table = derive_searches(planned, rows, SETTINGS)
        assert table["search_id"].to_pylist() == ["search", "a", "other"]
        assert table["capacity_tokens"].to_pylist() == [None, None, 9]
        # Derived again from what was derived: the same.
        assert derive_searches(table, rows, SETTINGS).equals(table)


def test_theoretical_tokens_are_k_d_b_over_log2_v():
    facts = ModelFacts(
        fingerprint="f", revision="r", vocabulary=2**15, context=None, embedding_width=768, num_parameters=1
    )
    assert theoretical_tokens(facts, num_vectors=1) == pytest.approx(768 * 16 / 15)
    assert theoretical_tokens(facts, num_vectors=4) == pytest.approx(4 * 768 * 16 / 15)
