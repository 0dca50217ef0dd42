"""One suite for every implementation of Files, and what a crash leaves on a local disk."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from orchestrator.errors import BadInput
from orchestrator.store.files import Files, LocalFiles, RemoteFiles, open_files


@pytest.fixture(params=[LocalFiles, RemoteFiles])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param is LocalFiles:
        yield LocalFiles(tmp_path / "run")
    else:
        url = f"memory://{uuid.uuid4().hex}/run"
        yield RemoteFiles(url)
        fsspec.filesystem("memory").store.clear()


class TestEveryImplementation:
    def test_what_was_written_is_read(self, files):
        files.write("probes/a.parquet", b"content \x00 \xff")
        assert files.read("probes/a.parquet") == b"content \x00 \xff"
        assert files.exists("probes/a.parquet")

    def test_an_empty_blob_is_not_an_absent_one(self, files):
        files.write("empty", b"")
        assert files.exists("empty")
        assert files.read("empty") == b""

    def test_the_last_content_counts(self, files):
        files.write("lock", b"the first, which is longer")
        files.write("lock", b"the second")
        assert files.read("lock") == b"the second"
        assert files.names("", suffix="lock") == ["lock"]

    def test_reading_what_is_not_there(self, files):
        assert not files.exists("nothing")
        with pytest.raises(FileNotFoundError):
            files.read("nothing")
        with pytest.raises(FileNotFoundError):
            files.read("folder/nothing")

    def test_a_folder_is_no_blob_to_read(self, files):
        files.write("probes/a.parquet", b"a")
        with pytest.raises((IsADirectoryError, FileNotFoundError)):
            files.read("probes")

    def test_names_are_sorted_and_end_in_the_suffix(self, files):
        for name in ("probes/b.parquet", "probes/a.parquet", "probes/c.txt", "other/d.parquet", "e.parquet"):
            files.write(name, b"x")
        assert files.names("probes", suffix=".parquet") == ["probes/a.parquet", "probes/b.parquet"]
        assert files.names("probes", suffix=".txt") == ["probes/c.txt"]

    def test_a_name_can_be_read_as_it_is_given(self, files):
        files.write("probes/a.parquet", b"a")
        (name,) = files.names("probes", suffix=".parquet")
        assert files.read(name) == b"a"

    def test_a_folder_that_is_not_there_has_no_names(self, files):
        assert files.names("probes", suffix=".parquet") == []

    def test_names_are_asked_anew(self, files):
        files.write("probes/a.parquet", b"a")
        assert len(files.names("probes", suffix=".parquet")) == 1
        open_files(files.url).write("probes/b.parquet", b"b")
        assert len(files.names("probes", suffix=".parquet")) == 2

    def test_what_was_removed_is_gone(self, files):
        files.write("lock", b"mine")
        files.remove("lock")
        assert not files.exists("lock")
        assert files.names("", suffix="") == []

    def test_removing_what_is_not_there(self, files):
        files.remove("lock")
        files.write("lock", b"mine")
        assert files.read("lock") == b"mine"

    def test_another_opening_sees_the_same(self, files):
        files.write("lock", b"mine")
        assert open_files(files.url).read("lock") == b"mine"


class TestLocalFiles:
    def test_a_crash_before_the_rename_leaves_the_old_content(self, tmp_path, monkeypatch):
        files = LocalFiles(tmp_path)
        files.write("probes/a.parquet", b"old")

        def crash(self: Path, target: Path) -> Path:
            beside.append(self)
            assert self.read_bytes() == b"new", "the rename comes after the content"
            assert files.names("probes", suffix=".parquet") == ["probes/a.parquet"], "readers see the file beside"
            assert list((tmp_path / "probes").glob("*.parquet")) == [tmp_path / "probes" / "a.parquet"]
            raise OSError("the power is cut")

        beside: list[Path] = []
        monkeypatch.setattr(Path, "replace", crash)
        for name in ("probes/a.parquet", "probes/b.parquet"):
            with pytest.raises(OSError, match="the power is cut"):
                files.write(name, b"new")
        assert len(beside) == 2
        assert files.read("probes/a.parquet") == b"old"
        assert not files.exists("probes/b.parquet")
        assert [path.name for path in (tmp_path / "probes").iterdir()] == ["a.parquet"], "litter"

    def test_the_content_is_on_disk_before_it_has_its_name_and_the_name_before_write_returns(
        self, tmp_path, monkeypatch
    ):
        happened: list[str] = []
        replace = Path.replace

        def rename(self: Path, target: Path) -> Path:
            happened.append("rename")
            return replace(self, target)

        monkeypatch.setattr("os.fsync", lambda descriptor: happened.append("fsync"))
        monkeypatch.setattr(Path, "replace", rename)
        LocalFiles(tmp_path).write("a.parquet", b"a")
        assert happened == ["fsync", "rename", "fsync"]

    def test_what_a_killed_session_left_beside_is_not_named(self, tmp_path):
        (tmp_path / "probes").mkdir()
        (tmp_path / "probes" / ".a.parquet.1234.tmp").write_bytes(b"half of")
        (tmp_path / "probes" / ".hidden.parquet").write_bytes(b"half of")
        assert LocalFiles(tmp_path).names("probes", suffix=".parquet") == []

    def test_a_folder_or_its_url_is_the_same_place(self, tmp_path):
        open_files(f"file://{tmp_path}").write("lock", b"mine")
        assert open_files(str(tmp_path)).read("lock") == b"mine"


def test_a_protocol_that_nobody_knows():
    with pytest.raises(BadInput, match="nosuch://place: this storage cannot be reached"):
        open_files("nosuch://place")
