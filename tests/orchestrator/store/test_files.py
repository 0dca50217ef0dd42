"""One suite for every implementation of Files, and what a crash leaves on a local disk.

Long, as each promise of a store has its test here.
"""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from orchestrator.errors import BadInput
from orchestrator.store.files import Files, open_files
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.remote_files import RemoteFiles

ODD_PLACES = ("run", "exp[1]/run", "a*b/[!x]?", "{a,b}/%20 #1;&+'\"é😀", "[/]", "**", "\\[x\\]", "~/$HOME")
"""Folders of runs; all but the first hold letters that a pattern would read in its own way."""


@pytest.fixture(params=[(kind, place) for kind in (LocalFiles, RemoteFiles) for place in ODD_PLACES])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    kind, place = request.param
    if kind is LocalFiles:
        yield LocalFiles(tmp_path / place)
    else:
        yield RemoteFiles(f"memory://{uuid.uuid4().hex}/{place}")
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

    def test_a_name_is_no_pattern(self, files):
        """Neither in what is asked nor in what lies beside."""
        names = [f"probes/{name}.parquet" for name in ("[a]", "a", "*", "?", "b[!c]")]
        for name in names:
            files.write(name, name.encode())
        assert files.names("probes", suffix=".parquet") == sorted(names)
        assert files.read_all([*names, "probes/[ab].parquet"]) == {name: name.encode() for name in names}
        assert not files.exists("probes/[ab].parquet")
        assert not files.create("probes/*.parquet", b"another")
        files.remove("probes/*.parquet", "probes/[ab].parquet")
        files.move("probes/?.parquet", "damaged/?.parquet")
        left = [name for name in names if name not in ("probes/*.parquet", "probes/?.parquet")]
        assert files.names("probes", suffix=".parquet") == sorted(left)
        assert files.read("damaged/?.parquet") == b"probes/?.parquet"

    def test_other_runs_that_a_pattern_would_match_stay(self, files):
        """`exp[1]` as a pattern is `exp1`."""
        beside = open_files(re.sub(r"[\[\]*?{}!]", "1", files.url) + ("" if re.search(r"[\[*?{]", files.url) else "1"))
        for one in (files, beside):
            one.write("lock", one.url.encode())
        files.remove("lock")
        assert not files.exists("lock")
        assert beside.read("lock") == beside.url.encode()

    def test_folders_are_named_but_are_no_blobs(self, files):
        files.write("run/lock", b"mine")
        assert files.names("", suffix="") == ["run"]
        assert not files.exists("run")

    def test_another_opening_sees_the_same(self, files):
        files.write("lock", b"mine")
        assert open_files(files.url).read("lock") == b"mine"


class TestUnfinishedFiles:
    """What a killed or frozen session leaves half-written."""

    def test_are_removed_where_folders_are_links(self, tmp_path):
        run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
        elsewhere.mkdir()
        run.mkdir()
        (run / "probes").symlink_to(elsewhere)
        for folder in (run, run / "probes"):
            (folder / ".a.parquet.0123abcd.tmp").write_bytes(b"half of")
            (folder / ".mine.tmp").write_bytes(b"of somebody else")
        LocalFiles(run).remove_unfinished()
        assert sorted(path.name for path in elsewhere.iterdir()) == [".mine.tmp"]
        assert sorted(path.name for path in run.iterdir()) == [".mine.tmp", "probes"]

    def test_are_written_again_if_somebody_removes_them_too_early(self, tmp_path, monkeypatch):
        """A session that was frozen while it removed those of others goes on removing when it wakes up."""
        files, replace, removed = LocalFiles(tmp_path), Path.replace, []

        def once(self: Path, target: Path) -> Path:
            if not removed:
                removed.append(self)
                LocalFiles(tmp_path).remove_unfinished()
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", once)
        files.write("probes/a.parquet", b"rows")
        assert removed
        assert files.read("probes/a.parquet") == b"rows"

    def test_of_one_that_lost_the_run_are_not(self, tmp_path, monkeypatch):
        files, removed = LocalFiles(tmp_path), []

        def lost(self: Path, target: Path) -> Path:
            removed.append(self)
            LocalFiles(tmp_path).remove_unfinished()
            raise FileNotFoundError(str(self))

        def check() -> None:
            if removed:
                raise RuntimeError("taken over")

        monkeypatch.setattr(Path, "replace", lost)
        with pytest.raises(RuntimeError, match="taken over"):
            files.write("probes/a.parquet", b"rows", may_write=check)
        assert len(removed) == 1

    def test_a_write_that_is_refused_at_the_last_moment_leaves_no_folder(self, tmp_path):
        """The run was removed while its content was written to disk."""
        (tmp_path / "kept").mkdir()

        def write(name: str) -> None:
            looks = iter(["first"])

            def may_write() -> None:
                next(looks)

            LocalFiles(tmp_path / "kept" / "run").write(name, b"rows", may_write=may_write)

        for name in ("sweep.yaml", "probes/a.parquet"):
            with pytest.raises(StopIteration):
                write(name)
            assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]
        (tmp_path / "kept" / "run").mkdir()
        with pytest.raises(StopIteration):
            write("probes/a.parquet")
        assert list(tmp_path.rglob("*")) == [tmp_path / "kept", tmp_path / "kept" / "run"]


class TestWhatCannotBeListed:
    """Is an error: an empty listing would say that nothing was written."""

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
    def test_a_folder_that_may_not_be_read(self, tmp_path):
        LocalFiles(tmp_path).write("probes/a.parquet", b"a")
        (tmp_path / "probes").chmod(0o300)
        with pytest.raises(PermissionError):
            LocalFiles(tmp_path).names("probes", suffix=".parquet")

    def test_a_file_in_the_place_of_a_folder(self, tmp_path):
        (tmp_path / "probes").write_bytes(b"no folder")
        with pytest.raises(NotADirectoryError):
            LocalFiles(tmp_path).names("probes", suffix=".parquet")

    def test_a_file_in_the_place_of_a_folder_is_no_rival(self, tmp_path):
        (tmp_path / "sessions").write_bytes(b"no folder")
        with pytest.raises(FileExistsError):
            LocalFiles(tmp_path).create("sessions/1.json", b"mine")

    @pytest.mark.parametrize("call", ["ls", "info"])
    def test_a_store_that_does_not_answer(self, monkeypatch, call):
        files = RemoteFiles(f"memory://{uuid.uuid4().hex}/run")

        def down(*arguments: object, **options: object) -> None:
            raise RuntimeError("no route to host")

        monkeypatch.setattr(type(files._system), call, down)
        with pytest.raises(OSError, match="no route to host"):
            files.names("probes", suffix=".parquet") if call == "ls" else files.exists("lock")


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

    @pytest.mark.parametrize("protocol", ["file://", "local://"])
    def test_a_folder_or_its_url_is_the_same_place(self, tmp_path, protocol):
        open_files(f"{protocol}{tmp_path}").write("lock", b"mine")
        assert open_files(str(tmp_path)).read("lock") == b"mine"


class TestFoldersWithoutLinks:
    """As on exFAT and on mounted drives and buckets, some of which cannot sync a folder either."""

    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(source: Path, target: Path) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(target))

        def sync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr("os.link", link)
        monkeypatch.setattr("os.fsync", sync)

    def test_one_of_two_creates(self, tmp_path):
        files = LocalFiles(tmp_path)
        assert files.create("sessions/1.json", b"first")
        assert not files.create("sessions/1.json", b"second")
        assert files.read("sessions/1.json") == b"first"
        assert os.listdir(tmp_path / "sessions") == ["1.json"]

    def test_a_run_is_run_and_resumed(self, toy_sweep, tmp_path, capsweep, no_page):
        run = tmp_path / "run"
        assert capsweep("run", toy_sweep, "--inline", "--run-dir", run).returncode == 0
        next((run / "probes").iterdir()).unlink()
        assert capsweep("resume", run, "--inline").returncode == 0

    def test_another_fault_is_one(self, tmp_path, monkeypatch):
        def full(source: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.link", full)
        with pytest.raises(OSError, match="No space left"):
            LocalFiles(tmp_path).create("sessions/1.json", b"mine")


def test_no_listing_is_kept():
    """A claim of another session would not exist for a session that had listed the claims before."""
    kept = RemoteFiles(f"memory://{uuid.uuid4().hex}/run")._system.dircache
    kept["sessions"] = []
    assert "sessions" not in kept


@pytest.mark.parametrize("url", ["memory://a::b/run", "simplecache::memory://a/run", "zip://run::memory://a.zip"])
def test_chained_storages_are_refused(url):
    with pytest.raises(BadInput, match="'::' chains storages"):
        open_files(url)


def test_a_protocol_that_nobody_knows():
    with pytest.raises(BadInput, match="nosuch://place: this storage cannot be reached"):
        open_files("nosuch://place")
