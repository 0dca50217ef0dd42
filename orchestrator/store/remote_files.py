"""Blobs of a run in an object store, through fsspec; see `Files`."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import fsspec

REMOVED_TOGETHER = 16
"""Objects that are removed at a time."""


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
