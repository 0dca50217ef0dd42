"""Named blobs of a run, on a local folder or an object store: durable and whole, or not there.

Knows nothing of rows, Parquet or searches.
"""

import os
import uuid
from pathlib import Path, PurePosixPath
from typing import Protocol

import fsspec

from orchestrator.errors import BadInput


class Files(Protocol):
    """Blobs by relative name, with `/` between folders."""

    url: str
    """The root, as a user would write it."""

    def write(self, name: str, content: bytes) -> None:
        """Durable when this returns; a reader sees the old content, none, or all of the new."""
        ...

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such blob."""
        ...

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names below `folder` that end in `suffix`, sorted; none if there is no such folder."""
        ...

    def exists(self, name: str) -> bool:
        """Whether a blob of this name can be read."""
        ...

    def remove(self, name: str) -> None:
        """Remove a blob; nothing happens if there is none."""
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

    def write(self, name: str, content: bytes) -> None:
        """Write beside, fsync, rename, fsync the folder: after a power cut the blob is whole or absent."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Outside the `*.parquet` glob, so that no reader meets a half-written file.
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with beside.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such blob."""
        return (self._root / name).read_bytes()

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names below `folder`, sorted."""
        found = (path.name for path in (self._root / folder).glob(f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, name)) for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether a blob of this name can be read."""
        return (self._root / name).is_file()

    def remove(self, name: str) -> None:
        """Remove a blob."""
        (self._root / name).unlink(missing_ok=True)


class RemoteFiles:
    """An object store, through fsspec: one PUT is whole or absent by itself."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, root = fsspec.core.url_to_fs(self.url)
        self._root = PurePosixPath(root)

    def write(self, name: str, content: bytes) -> None:
        """One PUT."""
        self._system.pipe_file(str(self._root / name), content)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such object."""
        return self._system.cat_file(str(self._root / name))

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names below `folder`, sorted; the listing is asked anew each time."""
        self._system.invalidate_cache()
        found = self._system.glob(str(self._root / folder / f"*{suffix}"))
        return sorted(str(PurePosixPath(folder, PurePosixPath(path).name)) for path in found)

    def exists(self, name: str) -> bool:
        """Whether an object of this name is there."""
        return bool(self._system.exists(str(self._root / name)))

    def remove(self, name: str) -> None:
        """Remove an object."""
        if self.exists(name):
            self._system.rm_file(str(self._root / name))
