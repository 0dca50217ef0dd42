"""What is found out about files that are damaged, newer, many, or held by another session."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import orchestrator
from orchestrator.errors import BadInput
from orchestrator.store import compaction
from orchestrator.store.files import Files, open_files
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import VERSION_KEY, read_probes, row_files
from orchestrator.store.recorder import Recorder
from orchestrator.store.schema import SCHEMA_VERSION
from tests.orchestrator.store.outcomes import CONTEXT, failed, measured, probe

DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "flipped": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
}


@pytest.fixture(params=["folder", "objects"])
def files(request, tmp_path) -> Files:
    return LocalFiles(tmp_path) if request.param == "folder" else open_files(f"memory://{tmp_path.name}")


def recorder_of(files: Files, session_id: str = "first") -> Recorder:
    return Recorder(files, replace(CONTEXT, session_id=session_id))


class TestCreate:
    def test_only_the_first_does(self, files):
        assert files.create("lock", b"first")
        assert not files.create("lock", b"second")
        assert files.read("lock") == b"first"

    def test_again_after_it_was_removed(self, files):
        files.create("lock", b"first")
        files.remove("lock")
        assert files.create("lock", b"second")


def test_many_are_read_at_once_and_what_is_gone_is_left_out(files):
    for name in ("probes/a", "probes/b"):
        files.write(name, name.encode())
    assert files.read_all(["probes/a", "probes/none", "probes/b"]) == {"probes/a": b"probes/a", "probes/b": b"probes/b"}
    assert files.read_all([]) == {}


def test_a_write_that_may_not_be_leaves_the_old_content(files):
    def never() -> None:
        raise RuntimeError("taken over")

    files.write("name", b"old")
    with pytest.raises(RuntimeError, match="taken over"):
        files.write("name", b"new", may_write=never)
    assert files.read("name") == b"old"


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_file_of_rows_is_named(self, files, damage):
        recorder_of(files).record([measured(probe(0), proven=9)])
        recorder_of(files, "second").record([measured(probe(1), proven=10)])
        name = row_files(files)[0]
        files.write(name, DAMAGES[damage](files.read(name)))
        with pytest.raises(BadInput, match=f"{name}: damaged"):
            read_probes(files)
        found = []
        assert read_probes(files, damaged=found)["number"].to_pylist() == [1]
        assert [error.name for error in found] == [name]

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_resume_sets_it_aside_and_ends_with_the_same_table(
        self, toy_sweep, finished, no_page, capsweep, searches_of, damage
    ):
        run = finished(toy_sweep)
        before = searches_of(run)
        rows = next(iter((run / "probes").iterdir()))
        for path in (rows, run / "samples.parquet"):
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
        resumed = capsweep("resume", run, "--inline")
        assert resumed.returncode == 0, resumed.stderr
        assert sorted(path.name for path in (run / "damaged").iterdir()) == sorted([rows.name, "samples.parquet"])
        assert rows.name in "".join(resumed.stdout.split())
        assert searches_of(run) == before

    @pytest.mark.parametrize("version", [None, "0", "99"])
    def test_another_version_is_refused(self, files, version):
        metadata = None if version is None else {VERSION_KEY: version}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"probe_id": ["a"]}).replace_schema_metadata(metadata), sink)
        files.write("probes/first-abc.parquet", sink.getvalue().to_pybytes())
        with pytest.raises(BadInput, match="written by another version of capsweep"):
            read_probes(files)

    def test_an_earlier_one_is_read_without_what_it_did_not_have(self, files):
        recorder_of(files).record([measured(probe(), proven=9)])
        (name,) = row_files(files)
        rows = pq.read_table(pa.BufferReader(files.read(name)), use_threads=False).drop_columns(["steps_by_length"])
        sink = pa.BufferOutputStream()
        pq.write_table(rows.replace_schema_metadata({VERSION_KEY: "1"}), sink)
        files.remove(name)
        files.write("probes/first-abc.parquet", sink.getvalue().to_pybytes())
        (row,) = read_probes(files).to_pylist()
        assert (row["proven_length"], row["steps_by_length"]) == (9, None)

    def test_a_file_of_this_version_without_one_of_its_columns_is_damaged(self, files):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"probe_id": ["a"]}).replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)}), sink)
        files.write("probes/first-abc.parquet", sink.getvalue().to_pybytes())
        with pytest.raises(BadInput, match="no column"):
            read_probes(files)


class TestCompaction:
    def test_rows_are_the_same_in_fewer_files(self, files, monkeypatch):
        monkeypatch.setattr("orchestrator.store.recorder.COMPACT_FILES", 5)
        writing = recorder_of(files)
        for number in range(12):
            writing.record([measured(probe(number), proven=9), failed(probe(number + 100))])
        assert len(row_files(files)) == 2 + 12 - 10
        assert sorted(read_probes(files)["number"].to_pylist()) == [*range(12), *range(100, 112)]

    def test_a_crash_before_the_small_ones_are_removed_shows_nothing_twice(self, files, monkeypatch):
        for number in range(3):
            recorder_of(files, f"session{number}").record([measured(probe(number), proven=9)])
        before = read_probes(files).sort_by("number")
        monkeypatch.setattr(type(files), "remove", lambda self, *names: None)
        compaction.compact(files, row_files(files), "last")
        assert len(row_files(files)) == 4
        assert read_probes(files).sort_by("number").equals(before)

    def test_one_that_cannot_be_written_removes_nothing(self, files, monkeypatch):
        for number in range(3):
            recorder_of(files, f"session{number}").record([measured(probe(number), proven=9)])
        names = row_files(files)

        def full(*arguments: object, **settings: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(type(files), "write", full)
        with pytest.raises(OSError, match="no space"):
            compaction.compact(files, names, "last")
        assert row_files(files) == names


def test_of_two_verdicts_on_a_probe_that_of_the_later_session_counts(files):
    recorder_of(files, "20260101").record([measured(probe(), proven=9)])
    recorder_of(files, "20260102").record([measured(replace(probe(), attempt=1), proven=12)])
    (row,) = read_probes(files).to_pylist()
    assert row["proven_length"] == 12


def test_a_run_that_holds_no_samples_is_no_run(tmp_path: Path):
    with pytest.raises(BadInput, match="not a run directory"):
        orchestrator.read(str(tmp_path))
