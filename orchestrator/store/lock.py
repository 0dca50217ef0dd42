"""Who writes to a run now: one session at a time.

Knows nothing of rows or searches.
"""

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass

from orchestrator.errors import BadInput, SessionFaultError
from orchestrator.store.files import Files

LOCK_FILE = "lock"
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A holder on another host that was silent for so long is taken to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The session that holds a lock."""

    session_id: str
    host: str
    pid: int
    heartbeat: float
    """Unix time in seconds at which it last said that it lives."""


class LostLockError(SessionFaultError):
    """Another session has taken over the run: this one must not write any more."""


class RunLock:
    """Held from `take` to `release`, with a heartbeat in between."""

    def __init__(self, files: Files, session_id: str) -> None:
        self._files = files
        self._session_id = session_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def take(self, *, take_over: bool = False) -> None:
        """Become the one session that may write.

        Raises:
            BadInput: when another session holds the run and still lives.
        """
        holder = read_holder(self._files)
        if holder is not None and not take_over and _lives(holder):
            raise BadInput(
                f"{self._files.url}: another session writes here: process {holder.pid} on {holder.host}. "
                "Stop it first, or use --take-over if you know that it is gone."
            )
        self._write()
        self._thread.start()

    def release(self) -> None:
        """Let others write."""
        self._stop.set()
        self._thread.join()
        if holds(self._files, self._session_id):
            self._files.remove(LOCK_FILE)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if not holds(self._files, self._session_id):
                    return
                self._write()
            except OSError:
                # A full disk or a slow store now is no reason to be silent for ever.
                continue

    def _write(self) -> None:
        holder = Holder(session_id=self._session_id, host=socket.gethostname(), pid=os.getpid(), heartbeat=time.time())
        self._files.write(LOCK_FILE, json.dumps(asdict(holder)).encode())


def read_holder(files: Files) -> Holder | None:
    """Who holds the run; None if nobody does."""
    try:
        return Holder(**json.loads(files.read(LOCK_FILE)))
    except (FileNotFoundError, ValueError, TypeError):
        # A lock that cannot be read names nobody.
        return None


def holds(files: Files, session_id: str) -> bool:
    """Whether this session may write. A session whose driver was killed finds another's name here, or none."""
    holder = read_holder(files)
    return holder is not None and holder.session_id == session_id


def _lives(holder: Holder) -> bool:
    if holder.host == socket.gethostname():
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return time.time() - holder.heartbeat < STALE_SECONDS
