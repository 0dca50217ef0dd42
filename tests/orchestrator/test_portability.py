"""Memories decoded under other settings, and the table of what came back."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.analysis.memories import stored_memories
from orchestrator.analysis.portability import parse_settings, portable, verify_under
from orchestrator.errors import BadInput
from orchestrator.report.writing import report_tables
from orchestrator.runs.directory import open_run
from orchestrator.store.parquet import read_table, write_table
from orchestrator.store.schema import PORTABILITY, PORTABILITY_FILE


def written(run: Path) -> list[dict]:
    return read_table(open_run(str(run)).files, PORTABILITY_FILE, PORTABILITY).to_pylist()


class TestSettings:
    def test_a_setting_is_named_by_its_changes_in_a_fixed_order(self):
        (setting,) = parse_settings(["cache=off, batch=08,dtype=bfloat16"], device="cpu")
        assert setting.name == "dtype=bfloat16,device=cpu,batch=8,cache=off"
        assert (setting.device, setting.batch) == ("cpu", 8)
        assert (setting.decoding.dtype, setting.decoding.attention, setting.decoding.cache) == ("bfloat16", None, False)

    def test_the_same_setting_is_measured_once(self):
        assert len(parse_settings(["batch=8,cache=on", "cache=on,batch=8"])) == 1

    def test_a_setting_names_its_device_rather_than_the_option(self):
        assert [setting.device for setting in parse_settings(["device=cpu", "batch=2"], device="mps")] == ["cpu", "mps"]

    def test_all_problems_are_named_at_once_with_what_is_known(self):
        with pytest.raises(BadInput) as caught:
            parse_settings(["dtipe=bfloat16", "dtype=bf16,batch=0", "cache=maybe,batch=2,batch=3", ""])
        assert caught.value.problems == (
            "--as dtipe=bfloat16: 'dtipe' is no setting; known: dtype, attention, device, batch, cache. "
            "Did you mean 'dtype'?",
            "--as dtype=bf16,batch=0: dtype: 'bf16' is not known; known: float32, bfloat16, float16. "
            "Did you mean 'bfloat16'?",
            "--as dtype=bf16,batch=0: batch: '0' is not a number of memories. Wanted 1 or more.",
            "--as cache=maybe,batch=2,batch=3: cache: 'maybe' is not known; known: on, off.",
            "--as cache=maybe,batch=2,batch=3: batch stands there twice. Wanted one value; repeat --as for another "
            "setting.",
            "--as : '' is no setting; known: dtype, attention, device, batch, cache.",
        )


class TestOfTheToy:
    @pytest.fixture
    def run(self, toy_sweep: Path, finished: Callable[..., Path]) -> Path:
        return finished(toy_sweep)

    def test_every_memory_has_a_row_for_each_setting(self, run):
        found = verify_under(open_run(str(run)), parse_settings(["batch=5", "cache=off"]))
        memories = stored_memories(open_run(str(run)))
        rows = written(run)
        assert {(row["probe_id"], row["setting"]) for row in rows} == {
            (row["probe_id"], setting) for row in memories for setting in ("batch=5", "cache=off")
        }
        assert all(row["exact_prefix"] == row["tokens"] for row in rows)
        assert [(one.num_exact, one.num_memories) for one in found] == [(len(memories), len(memories))] * 2

    def test_other_settings_stay_as_far_as_they_are_of_these_memories(self, run):
        opened = open_run(str(run))
        verify_under(opened, parse_settings(["batch=5", "cache=off"]))
        rows = read_table(opened.files, PORTABILITY_FILE, PORTABILITY).to_pylist()
        rows += [{**rows[0], "setting": "device=cuda"}, {**rows[1], "setting": "device=cuda", "tokens": 999}]
        write_table(opened.files, PORTABILITY_FILE, pa.Table.from_pylist(rows, schema=PORTABILITY))
        verify_under(opened, parse_settings(["batch=5"]))
        settings = [row["setting"] for row in written(run)]
        assert settings.count("device=cuda") == 1
        assert settings.count("batch=5") == settings.count("cache=off") == len(stored_memories(opened))

    def test_what_is_older_than_the_results_is_left_out_of_the_page(self, run):
        opened = open_run(str(run))
        verify_under(opened, parse_settings(["batch=5"]))
        rows = written(run)
        rows[0]["tokens"] += 1
        write_table(opened.files, PORTABILITY_FILE, pa.Table.from_pylist(rows, schema=PORTABILITY))
        assert report_tables(opened).portability.num_rows == len(rows) - 1
        assert any("portability.parquet older than the results" in note for note in opened.notes)

    def test_a_damaged_table_is_named_and_written_anew(self, run, capsweep, no_page):
        (run / PORTABILITY_FILE).write_bytes(b"garbage")
        opened = open_run(str(run))
        assert report_tables(opened).portability.num_rows == 0
        assert any("portability.parquet: damaged" in note for note in opened.notes)
        ended = capsweep("verify", run, "--as", "batch=3")
        assert ended.returncode == 0
        assert len(written(run)) == len(stored_memories(opened))

    def test_nothing_is_written_for_an_unknown_setting(self, run, capsweep):
        ended = capsweep("verify", run, "--as", "batch=3", "--as", "flash=on")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert not (run / PORTABILITY_FILE).exists()


def test_shares_are_summed_up_beside_the_margin_from_which_all_decode():
    rows = [
        {"probe_id": probe, "tokens": 10, "exact_prefix": prefix}
        for probe, prefix in (("a", 10), ("b", 5), ("c", 10), ("d", 10))
    ]
    found = portable("cache=off", rows, {"a": 0.001, "b": 0.01, "c": 0.02, "d": 0.3})
    assert (found.num_exact, found.num_memories, found.largest_failing, found.num_above) == (3, 4, 0.01, 2)
    assert found.mean_share == pytest.approx(0.875)
    assert found.in_words() == (
        "cache=off: 3 of 4 memories exact (all 2 with a margin above 0.01 are); on average 88% of the tokens come "
        "back before the first error"
    )
