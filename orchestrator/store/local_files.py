"""Blobs of a run in a folder on this machine; see `Files`."""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Name of a file that is being written."""
NOT_SUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems answer that have no links, or cannot sync a folder: exFAT, mounted drives and buckets."""
MOST_ATTEMPTS = 3
"""Attempts at a write whose unfinished file somebody removes."""


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
        """Write a temporary file and link it: a link never replaces a file, and is whole from the first moment."""
        target = self._root / name
        made: list[Path] = []

        def link(beside: Path) -> None:
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(beside, target)
                except OSError as error:
                    if error.errno not in NOT_SUPPORTED:
                        raise
                    with target.open("xb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
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
    """A temporary file beside `target` with the content, on disk; removed at the end unless it was renamed.

    If the write fails, so are the folders that were made for it: a session that has lost its run leaves none.
    """
    made = _make_folders(target.parent)
    # Outside the `*.parquet` glob, so that no reader meets a half-written file.
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with beside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        yield beside
    except BaseException:
        beside.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else has written there since
                folder.rmdir()
        raise
    beside.unlink(missing_ok=True)


def _make_folders(wanted: Path) -> list[Path]:
    """Make a folder, and those above it that are missing; returns what was made, from the top."""
    made: list[Path] = []
    for folder in (*reversed(wanted.parents), wanted):
        try:
            folder.mkdir()
        except OSError as error:
            # Of a file in the place of a folder above, the next call says that it is no folder.
            if folder.is_dir() or (isinstance(error, FileExistsError) and folder != wanted):
                continue
            raise
        made.append(folder)
    return made


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(folder)
