"""Named blobs of a run, in a local folder or an object store: each is durable and whole, or absent.

Knows nothing of rows, Parquet or searches.
"""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Protocol

import fsspec

from orchestrator.errors import BadInput

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file that is being written."""
MOST_ATTEMPTS = 3
"""Attempts at a write whose unfinished file somebody removes."""
LOCAL_PROTOCOLS = ("file://", "local://")
REMOVED_TOGETHER = 16
"""Objects that are removed at a time."""


class Files(Protocol):
    """Blobs by relative name, with `/` between folders. A name means itself: `*`, `?` and `[` in it match nothing."""

    url: str
    """The root, as a user would write it."""

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write a blob, durable when this returns; a reader sees the old blob, if any, or the whole new one.

        `may_write` is called before anything is made and at the last moment; it raises if the blob must not appear.
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
        """Names in `folder` that end in `suffix`, sorted; none if there is no such folder.

        Raises:
            OSError: when the folder cannot be listed.
        """
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a blob of this name; raises OSError when that cannot be found out."""
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
        BadInput: when fsspec does not know the protocol here, or the URL chains several.
    """
    for protocol in LOCAL_PROTOCOLS:
        if url.startswith(protocol):
            return LocalFiles(Path(url.removeprefix(protocol)))
    if "://" in url:
        if "::" in url:
            # fsspec would drop what stands behind, and write two runs to one place.
            raise BadInput(f"{url}: '::' chains storages of fsspec. Wanted one folder or URL, without '::'.")
        try:
            return RemoteFiles(url)
        except (ValueError, ImportError) as error:
            raise BadInput(
                f"{url}: this storage cannot be reached ({error}). Wanted a folder, or a URL that fsspec knows; "
                "the extras s3 and gcs of capsweep bring those two."
            ) from error
    return LocalFiles(Path(url).expanduser())


class LocalFiles:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Write a temporary file, fsync, rename, fsync the folder: after a power cut the blob is whole or absent."""
        target = self._root / name
        _finish(target, content, lambda beside: beside.replace(target), may_write or _always)

    def create(self, name: str, content: bytes) -> bool:
        """Write a temporary file and link it: a link never replaces a file."""
        target = self._root / name
        made: list[Path] = []

        def link(beside: Path) -> None:
            with contextlib.suppress(FileExistsError):
                os.link(beside, target)
                made.append(target)

        _finish(target, content, link, _always)
        return bool(made)

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError when there is none of this name."""
        path = self._root / name
        if not path.is_file():  # to open a pipe would wait for its writer, and to read a device might never end
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return path.read_bytes()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these files that exist, read one after the other."""
        found: dict[str, bytes] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder`, sorted, without hidden ones."""
        try:
            found = os.listdir(self._root / folder)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            if self._root.is_dir():
                raise
            return []
        return sorted(
            str(PurePosixPath(folder, name)) for name in found if name.endswith(suffix) and not name.startswith(".")
        )

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self._root / name).is_file()

    def move(self, name: str, to: str) -> None:
        """Rename a file."""
        target = self._root / to
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._root / name).replace(target)

    def remove(self, *names: str) -> None:
        """Remove files; a folder of such a name is left alone."""
        for name in names:
            with contextlib.suppress(IsADirectoryError):
                (self._root / name).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove temporary files from the folder and those directly in it, which may be links."""
        with contextlib.suppress(FileNotFoundError):
            for folder in [self._root, *(path for path in self._root.iterdir() if path.is_dir())]:
                for path in [path for path in folder.iterdir() if UNFINISHED.fullmatch(path.name)]:
                    path.unlink(missing_ok=True)


def _always() -> None:
    """Allow a write."""


def _finish(target: Path, content: bytes, give_name: Callable[[Path], object], may_write: Callable[[], None]) -> None:
    """Write a temporary file beside `target`, give it that name, and sync the folder."""
    for attempt in range(MOST_ATTEMPTS):
        may_write()
        try:
            with _written_beside(target, content) as beside:
                may_write()
                give_name(beside)
            break
        except FileNotFoundError:
            # A session that begins removes what others had not finished; one that was frozen does so late.
            if attempt == MOST_ATTEMPTS - 1:
                raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def _written_beside(target: Path, content: bytes) -> Iterator[Path]:
    """A temporary file beside `target` with the content, on disk; removed at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Outside the `*.parquet` glob, so that no reader meets a half-written file.
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
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
    """An object store, through fsspec: a PUT leaves the whole object or none.

    Uses only those calls of fsspec that take a name as it is: the others read it as a pattern.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # From a listing that it keeps, fsspec would also answer that a new object of another session does not exist.
        self._system, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
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
        whole = [None] * len(names)
        with self._as_os_error():
            contents = self._system.cat_ranges([self._path(name) for name in names], whole, whole, on_error="return")
        found: dict[str, bytes] = {}
        for name, content in zip(names, contents, strict=True):
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, Exception):
                with self._as_os_error():
                    raise content
            found[name] = content
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder`, sorted; each call lists the store again."""
        listed = self._root / folder
        with self._as_os_error():
            try:
                found = [PurePosixPath(entry["name"]) for entry in self._system.ls(str(listed), detail=True)]
            except FileNotFoundError:
                return []
        # Some stores list an object that stands for the folder.
        names = {path.name for path in found if path != listed and path.name.endswith(suffix)}
        return sorted(str(PurePosixPath(folder, name)) for name in names)

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        with self._as_os_error():
            try:
                # `exists` and `isfile` of fsspec say no when the store does not answer.
                return self._system.info(self._path(name))["type"] == "file"
            except FileNotFoundError:
                return False

    def move(self, name: str, to: str) -> None:
        """Copy, then remove."""
        with self._as_os_error():
            self._system.cp_file(self._path(name), self._path(to))
            self._system.rm_file(self._path(name))

    def remove(self, *names: str) -> None:
        """Remove objects, several at a time."""

        def remove(name: str) -> None:
            with self._as_os_error(), contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._path(name))

        with ThreadPoolExecutor(REMOVED_TOGETHER) as pool:
            list(pool.map(remove, names))

    def remove_unfinished(self) -> None:
        """Do nothing: an object is whole or absent."""

    def _path(self, name: str) -> str:
        return str(self._root / name)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """Raise any error of a store as OSError: every store has its own types for missing credentials or buckets."""
        try:
            # For storages that do not know `use_listings_cache`.
            self._system.invalidate_cache()
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(
                f"{self.url}: the storage reported: {str(error).rstrip('.')}. Check the URL, the network, and the "
                "credentials in the environment or in the settings of fsspec."
            ) from error
