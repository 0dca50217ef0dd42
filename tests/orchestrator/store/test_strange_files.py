"""What is called `*.parquet` and is no file of rows: named in one line, within seconds, and set aside by a resume."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import BadInput
from orchestrator.runs.directory import open_run
from orchestrator.store import parquet
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import VERSION_KEY, DamagedFileError, parse_table, read_probes, read_samples
from orchestrator.store.schema import LINES, SCHEMA_VERSION

pytestmark = pytest.mark.usefixtures("no_page")

NAME = "probes/20260101T000000-strange.parquet"
STRANGE = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to(path.parent),
    "link to another file": lambda path: path.symlink_to("/etc/hostname"),
    "empty file": Path.touch,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_is_a_damaged_file(kind, tmp_path):
    (tmp_path / "probes").mkdir()
    STRANGE[kind](tmp_path / NAME)
    with pytest.raises(DamagedFileError, match=rf"{NAME}: damaged \("):
        read_probes(LocalFiles(tmp_path))


def test_verbs_that_read_name_one_and_a_resume_sets_all_aside(capsweep, finished, toy_sweep):
    run = finished(toy_sweep)
    searches = open_run(str(run)).searches()
    for number, make in enumerate(STRANGE.values()):
        make(run / f"probes/strange-{number}.parquet")
    for verb in ("status", "verify"):
        ended = capsweep(verb, run)
        assert (ended.returncode, ended.stdout) == (2, "")
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"{run}/probes/strange-")
    ended = capsweep("resume", run, "--inline")
    assert ended.returncode == 0, ended.stderr
    assert len(list((run / "damaged").iterdir())) == len(STRANGE)
    assert open_run(str(run)).searches() == searches


@pytest.mark.parametrize("kind", STRANGE)
def test_a_table_of_that_name_ends_no_reader(kind, tmp_path):
    STRANGE[kind](tmp_path / "samples.parquet")
    with pytest.raises((FileNotFoundError, BadInput)):
        read_samples(LocalFiles(tmp_path))


def test_a_link_to_a_file_of_rows_is_read(finished, toy_sweep, tmp_path):
    run = finished(toy_sweep)
    before = open_run(str(run)).searches()
    for path in list((run / "probes").iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert open_run(str(run)).searches() == before


class TestBombs:
    """Files of kilobytes that would take gigabytes: by compression, by runs of one value, by a dictionary."""

    @staticmethod
    def lines(**columns: pa.Array) -> bytes:
        (length,) = {len(column) for column in columns.values()}
        every = [columns.get(field.name, pa.nulls(length, field.type)) for field in LINES]
        table = pa.table(every, names=LINES.names).replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @pytest.mark.parametrize("kind", ["compressed", "one value", "long value in a dictionary", "dictionary type"])
    def test_are_damaged_files(self, kind, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "MOST_UNPACKED", 2**20)
        long = pa.array(["x" * 2**16])
        repeated = pa.DictionaryArray.from_arrays(pa.nulls(200, pa.int32()).fill_null(0), long)
        column = {
            "compressed": {"source": pa.array(["x" * 2**21])},
            "one value": {"tokens": pa.nulls(2**19, pa.int32()).fill_null(1)},
            "long value in a dictionary": {"model": repeated.cast(pa.string())},
            "dictionary type": {"model": repeated},
        }[kind]
        content = self.lines(**column)
        assert len(content) < 2**15
        with pytest.raises(DamagedFileError, match=r"damaged \(it unpacks to more than 1 MiB\)"):
            parse_table(LocalFiles(tmp_path), "lines.parquet", content, LINES)

    def test_what_is_as_large_on_disk_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "MOST_UNPACKED", 2**14)
        content = self.lines(source=pa.array([os.urandom(2**10).hex() for _ in range(40)]))
        assert len(parse_table(LocalFiles(tmp_path), "lines.parquet", content, LINES)) == 40
