"""The files of a run as one session may change them: every change first asks whether the session still holds the run.

Knows nothing of rows, tables or what a session does.
"""

from collections.abc import Callable, Sequence

from orchestrator.store.files import Files
from orchestrator.store.lock import LostLockError, read_holder


class HeldFiles:
    """Files of a run that `session_id` holds; a change raises LostLockError once it does not, and makes no folder."""

    def __init__(self, files: Files, session_id: str) -> None:
        self.url = files.url
        self._files = files
        self._session_id = session_id

    def check(self) -> None:
        """Raise LostLockError unless the session holds the run."""
        holder = read_holder(self._files)
        if holder is None:
            raise LostLockError(f"{self._lost()} Its lock is gone: was the folder removed, moved or restored?")
        if holder.session_id != self._session_id:
            raise LostLockError(f"{self._lost()} Process {holder.pid} on {holder.host} holds it now.")

    def _lost(self) -> str:
        return f"{self.url}: session {self._session_id} has lost this run; its rows are not written."

    def write(self, name: str, content: bytes, *, may_write: Callable[[], None] | None = None) -> None:
        """See `Files`; `may_write` is called besides."""

        def both() -> None:
            self.check()
            if may_write is not None:
                may_write()

        self._files.write(name, content, may_write=both)

    def create(self, name: str, content: bytes) -> bool:
        """See `Files`."""
        self.check()
        return self._files.create(name, content)

    def read(self, name: str) -> bytes:
        """See `Files`."""
        return self._files.read(name)

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """See `Files`."""
        return self._files.read_all(names)

    def names(self, folder: str, *, suffix: str) -> list[str]:
        """See `Files`."""
        return self._files.names(folder, suffix=suffix)

    def exists(self, name: str) -> bool:
        """See `Files`."""
        return self._files.exists(name)

    def move(self, name: str, to: str) -> None:
        """See `Files`."""
        self.check()
        self._files.move(name, to)

    def remove(self, *names: str) -> None:
        """See `Files`."""
        self.check()
        self._files.remove(*names)

    def remove_unfinished(self) -> None:
        """See `Files`."""
        self.check()
        self._files.remove_unfinished()
