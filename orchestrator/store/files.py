"""Named blobs of a run, on a local folder or an object store: durable and whole, or not there.

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
"""How the name of a file ends that is being written."""


class Files(Protocol):
    """Blobs by relative name, with `/` between folders."""

    url: str
    """The root, as a user would write it."""

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """Durable when this returns; a reader sees the old content, none, or all of the new.

        `may_write` is asked at the last moment, and raises if the blob must not appear.
        """
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a blob if there is none of this name; returns whether it did. Of several at once, one does."""
        ...

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such blob."""
        ...

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of these blobs that are there, by name."""
        ...

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names below `folder` that end in `suffix`, sorted; none if there is no such folder."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a blob of this name can be read."""
        ...

    def move(self, name: str, to: str) -> None:
        """Give a blob another name."""
        ...

    def remove(self, *names: str) -> None:
        """Remove blobs; nothing happens where there is none."""
        ...

    def remove_unfinished(self) -> None:
        """Remove what writers left half-written that were killed; one that lives on cannot finish its write then."""
        ...


def open_files(url: str) -> Files:
    """A local folder, or whatever fsspec reaches under the URL's protocol.

    Raises:
        BadInput: when no such protocol is known here.
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
        """Write beside, fsync, rename, fsync the folder: after a power cut the blob is whole or absent."""
        target = self._root / name
        with _written_beside(target, content) as beside:
            if may_write is not None:
                may_write()
            beside.replace(target)
        _sync_folder(target.parent)

    def create(self, name: str, content: bytes) -> bool:
        """Write beside, and link: a link is never made over a file."""
        target = self._root / name
        with _written_beside(target, content) as beside:
            try:
                os.link(beside, target)
            except FileExistsError:
                return False
        _sync_folder(target.parent)
        return True

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such blob."""
        return (self._root / name).read_bytes()

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of these blobs that are there, one after the other."""
        found: dict[str, bytes] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names below `folder`, sorted."""
        found = (path.name for path in (self._root / folder).glob(f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, name)) for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether a blob of this name can be read."""
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
        """Remove files that were to be renamed."""
        for path in self._root.rglob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_beside(target: Path, content: bytes) -> Iterator[Path]:
    """The content in a file next to `target`, on disk, until it is renamed or no longer wanted."""
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
    """An object store, through fsspec: one PUT is whole or absent by itself."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, root = fsspec.core.url_to_fs(self.url)
        self._root = PurePosixPath(root)

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """One PUT."""
        if may_write is not None:
            may_write()
        with self._as_os_error():
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """One PUT on the condition that there is no such object (S3: If-None-Match)."""
        try:
            with self._as_os_error():
                self._system.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such object."""
        with self._as_os_error():
            return self._system.cat_file(self._path(name))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Those of these objects that are there, many at a time."""
        paths = {self._path(name): name for name in names}
        with self._as_os_error():
            # A store may give other objects than were asked for if it is asked for none.
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
        """Names below `folder`, sorted; the listing is asked anew each time."""
        with self._as_os_error():
            self._system.invalidate_cache()
            found = self._system.glob(str(self._root / folder / f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, PurePosixPath(path).name)) for path in found)

    def exists(self, name: str) -> bool:
        """Whether an object of this name is there."""
        with self._as_os_error():
            self._system.invalidate_cache()
            return bool(self._system.exists(self._path(name)))

    def move(self, name: str, to: str) -> None:
        """Copy, then remove."""
        with self._as_os_error():
            self._system.mv(self._path(name), self._path(to))

    def remove(self, *names: str) -> None:
        """Remove objects, many with one request where the store can."""
        with self._as_os_error(), contextlib.suppress(FileNotFoundError):
            self._system.rm([self._path(name) for name in names])

    def remove_unfinished(self) -> None:
        """Nothing: an object is whole or absent."""

    def _path(self, name: str) -> str:
        return str(self._root / name)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """Each store has errors of its own: no credentials, no answer, no such bucket."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(
                f"{self.url}: the storage reported: {str(error).rstrip('.')}. Check the URL, the network, and the "
                "credentials in the environment or in the settings of fsspec."
            ) from error
