"""The files of a run as one session may change them: every change first asks whether the session still holds the run.

Knows nothing of rows, tables or what a session does.
"""

from collections.abc import Callable, Sequence

from orchestrator.errors import SessionFaultError
from orchestrator.store.claims import claim_name, newest_claim
from orchestrator.store.files import Files
from orchestrator.store.holder import Holder, parse_holder


class LostLockError(SessionFaultError):
    """Another session has taken over the run, or somebody removed it, so this session must not write any more."""


class HeldFiles:
    """Files of a run that `session_id` holds; a change raises LostLockError once it does not, and makes no folder."""

    def __init__(self, files: Files, session_id: str, *, number: int | None = None) -> None:
        """`number` is that of the session's claim; None if the session has taken the run, here or elsewhere."""
        self.url = files.url
        self._files = files
        self._session_id = session_id
        self._number = number

    def check(self) -> None:
        """Ask whether the session still holds the run.

        Raises:
            LostLockError: when it does not.
            OSError: when that cannot be found out.
        """
        if self._number is None:
            newest = newest_claim(self._files)
            self._refuse_unless_mine(newest.holder)
            self._number = newest.number
        own, following = claim_name(self._number), claim_name(self._number + 1)
        found = self._files.read_all([own, following])
        self._refuse_unless_mine(parse_holder(found.get(following, found.get(own, b""))))

    def _refuse_unless_mine(self, holder: Holder | None) -> None:
        if holder is not None and holder.session_id == self._session_id and not holder.ended:
            return
        why = f"{holder} has taken it over" if holder else "its claim is gone; was the folder removed or moved?"
        lost = f"{self.url}: session {self._session_id} has lost this run; its rows are not written"
        raise LostLockError(f"{lost}: {why}")

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
