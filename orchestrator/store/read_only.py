"""Files of a run for those who read it again and again: nothing can be written, and what cannot change is read once.

Knows nothing of what the files hold.
"""

import io
from collections.abc import Callable, Sequence
from typing import NoReturn

from orchestrator.store.files import Files
from orchestrator.store.parquet import HASH_IN_NAME, is_whole

MOST_KEPT = 256 * 2**20
"""Most bytes that are kept in RAM; what is beyond is read again each time."""


class ReadOnlyFiles:
    """Blobs that are only read; one whose name has the hash of its content cannot change, and is read once."""

    def __init__(self, files: Files) -> None:
        self.url = files.url
        self._files = files
        self._kept: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """The content of a blob; raises FileNotFoundError when there is none of this name."""
        return self._files.read(name)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these blobs that exist, or existed when they were read before."""
        fresh = self._files.read_all([name for name in names if name not in self._kept])
        room = MOST_KEPT - sum(map(len, self._kept.values()))
        found = {name: self._kept[name] for name in names if name in self._kept} | fresh
        for name, content in fresh.items():
            if HASH_IN_NAME.search(name) and is_whole(name, content) and len(content) <= room:
                self._kept[name] = content
                room -= len(content)
        return found

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """Names in `folder` that end in `suffix`, sorted; what has gone from there is no longer kept."""
        names = self._files.names(folder, suffix=suffix)
        there = set(names)
        for gone in [name for name in self._kept if name.startswith(f"{folder}/") and name not in there]:
            del self._kept[gone]
        return names

    def exists(self, name: str) -> bool:
        """Whether there is a blob of this name."""
        return self._files.exists(name)

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> NoReturn:
        """Refuse."""
        raise io.UnsupportedOperation(f"{self.url}/{name}: this run is only read here")

    def create(self, name: str, content: bytes) -> NoReturn:
        """Refuse."""
        self.write(name, content)

    def move(self, name: str, to: str) -> NoReturn:
        """Refuse."""
        self.write(name, to.encode())

    def remove(self, *names: str) -> NoReturn:
        """Refuse."""
        self.write(" ".join(names), b"")

    def remove_unfinished(self) -> NoReturn:
        """Refuse."""
        self.write("*.tmp", b"")
