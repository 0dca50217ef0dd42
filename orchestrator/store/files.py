"""Named blobs of a run, in a local folder or an object store: each is durable and whole, or absent.

Knows nothing of rows, Parquet or searches.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import fsspec

from orchestrator.errors import BadInput

UNFINISHED = ".tmp"
"""Suffix of a file that is being written."""


class Files(Protocol):
    """Blobs by relative name, with `/` between folders."""

    url: str
    """The root, as a user would write it."""

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write a blob, durable when this returns; a reader sees the old blob, if any, or the whole new one.

        `may_write` is called at the last moment, and raises if the blob must not appear.
        """
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a blob if there is none of this name; returns whether it did. Of concurrent calls, one succeeds."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a blob; raises FileNotFoundError when there is none of this name."""
        ...

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these blobs that exist, by name."""
        ...

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder` that end in `suffix`, sorted; none if there is no such folder."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a blob of this name can be read."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a blob another name."""
        ...

    def remove(self, *names: str) -> None:
        """Remove blobs; names without a blob are ignored."""
        ...

    def remove_unfinished(self) -> None:
        """Remove unfinished files of killed writers; a writer that is still alive fails to finish its write then."""
        ...


def open_files(url: str) -> Files:
    """A local folder, or whatever fsspec reaches under the URL's protocol.

    Raises:
        BadInput: when fsspec does not know the protocol here.
    """
    if "://" in url and not url.startswith("file://"):
        try:
            return RemoteFiles(url)
        except (ValueError, ImportError) as error:
            raise BadInput(
                f"{url}: this storage cannot be reached ({error}). Wanted a folder, or a URL that fsspec knows; "
                "the extras s3 and gcs of capsweep bring those two."
            ) from error
    return LocalFiles(Path(url.removeprefix("file://")))


class LocalFiles:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write a temporary file, fsync, rename, fsync the folder: after a power cut the blob is whole or absent."""
        target, may = self._root / name, may_write or (lambda: None)
        may()  # before a folder is made
        with _written_beside(target, content) as beside:
            may()
            beside.replace(target)
        _sync_folder(target.parent)

    def create(self, name: str, content: bytes) -> bool:
        """Write a temporary file and link it: a link never replaces a file."""
        target = self._root / name
        with _written_beside(target, content) as beside:
            try:
                os.link(beside, target)
            except FileExistsError:
                return False
        _sync_folder(target.parent)
        return True

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError when there is none of this name."""
        return (self._root / name).read_bytes()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these files that exist, read one after the other."""
        found: dict[str, bytes] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder`, sorted."""
        found = (path.name for path in (self._root / folder).glob(f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, name)) for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self._root / name).is_file()

    def move(self, name: str, to: str) -> None:
        """Rename a file."""
        target = self._root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._root / name).replace(target)

    def remove(self, *names: str) -> None:
        """Remove files."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove temporary files."""
        for path in self._root.rglob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_beside(target: Path, content: bytes) -> Iterator[Path]:
    """A temporary file beside `target` with the content, on disk; removed at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Outside the `*.parquet` glob, so that no reader meets a half-written file.
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with beside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class RemoteFiles:
    """An object store, through fsspec: a PUT leaves the whole object or none."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, root = fsspec.core.url_to_fs(self.url)
        self._root = PurePosixPath(root)

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write an object with one PUT."""
        if may_write is not None:
            may_write()
        with self._as_os_error():
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object with one PUT that fails if the object exists (S3: If-None-Match)."""
        try:
            with self._as_os_error():
                self._system.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """The content of an object; raises FileNotFoundError when there is none of this name."""
        with self._as_os_error():
            return self._system.cat_file(self._path(name))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these objects that exist, fetched concurrently."""
        paths = {self._path(name): name for name in names}
        with self._as_os_error():
            # Asked for no objects, a store may return others.
            contents = self._system.cat(list(paths), on_error="return") if paths else {}
        found: dict[str, bytes] = {}
        for path, content in contents.items():
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, Exception):
                with self._as_os_error():
                    raise content
            found[paths[path]] = content
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder`, sorted; each call lists the store again."""
        with self._as_os_error():
            self._system.invalidate_cache()
            found = self._system.glob(str(self._root / folder / f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, PurePosixPath(path).name)) for path in found)

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        with self._as_os_error():
            self._system.invalidate_cache()
            return bool(self._system.exists(self._path(name)))

    def move(self, name: str, to: str) -> None:
        """Copy, then remove."""
        with self._as_os_error():
            self._system.mv(self._path(name), self._path(to))

    def remove(self, *names: str) -> None:
        """Remove objects, with one request for many if the store supports it."""
        with self._as_os_error(), contextlib.suppress(FileNotFoundError):
            self._system.rm([self._path(name) for name in names])

    def remove_unfinished(self) -> None:
        """Do nothing: an object is whole or absent."""

    def _path(self, name: str) -> str:
        return str(self._root / name)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """Raise any error of a store as OSError: every store has its own types for missing credentials or buckets."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(
                f"{self.url}: the storage reported: {str(error).rstrip('.')}. Check the URL, the network, and the "
                "credentials in the environment or in the settings of fsspec."
            ) from error
