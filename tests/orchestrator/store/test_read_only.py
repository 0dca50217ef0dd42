"""Files for those who only read: what they read once, and what they refuse."""

import io
from pathlib import Path

import pytest

from orchestrator.store.local_files import LocalFiles
from orchestrator.store.read_only import ReadOnlyFiles

WHOLE = "probes/session-6b86b273ff34fce1.parquet"
"""A file of rows whose content is `1`, by the hash in its name."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probes").mkdir()
    (tmp_path / WHOLE).write_bytes(b"1")
    (tmp_path / "searches.parquet").write_bytes(b"1")
    return tmp_path


def test_only_what_cannot_change_is_read_once(folder):
    files = ReadOnlyFiles(LocalFiles(folder))
    names = [WHOLE, "searches.parquet", "absent"]
    assert files.read_all(names) == dict.fromkeys(names[:2], b"1")
    for name in names[:2]:
        (folder / name).write_bytes(b"2")
    assert files.read_all(names) == {WHOLE: b"1", "searches.parquet": b"2"}


def test_what_does_not_hash_to_its_name_is_read_again(folder):
    files = ReadOnlyFiles(LocalFiles(folder))
    (folder / WHOLE).write_bytes(b"2")
    assert files.read_all([WHOLE]) == {WHOLE: b"2"}
    (folder / WHOLE).write_bytes(b"1")
    assert files.read_all([WHOLE]) == {WHOLE: b"1"}


def test_what_has_gone_is_not_kept(folder):
    files = ReadOnlyFiles(LocalFiles(folder))
    files.read_all([WHOLE])
    (folder / WHOLE).unlink()
    assert files.names("probes", suffix=".parquet") == []
    assert files.read_all([WHOLE]) == {}


def test_no_more_is_kept_than_there_is_room_for(folder, monkeypatch):
    monkeypatch.setattr("orchestrator.store.read_only.MOST_KEPT", 0)
    files = ReadOnlyFiles(LocalFiles(folder))
    files.read_all([WHOLE])
    (folder / WHOLE).write_bytes(b"2")
    assert files.read_all([WHOLE]) == {WHOLE: b"2"}


@pytest.mark.parametrize(
    "write",
    [
        lambda files: files.write(WHOLE, b"3"),
        lambda files: files.create("new", b"3"),
        lambda files: files.move(WHOLE, "new"),
        lambda files: files.remove(WHOLE),
        lambda files: files.remove_unfinished(),
    ],
)
def test_nothing_is_written(folder, write):
    (folder / ".x.0123abcd.tmp").touch()
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    with pytest.raises(io.UnsupportedOperation, match="only read here"):
        write(ReadOnlyFiles(LocalFiles(folder)))
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before
