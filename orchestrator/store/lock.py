"""Who writes to a run now: one session at a time.

Knows nothing of rows or searches.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from orchestrator.errors import BadInput, SessionFaultError
from orchestrator.store.files import Files

LOCK_FILE = "lock"
STOP_FILE = "stop"
"""Holds the id of a session that somebody asked to end."""
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A holder that was silent for so long is taken to be gone, also if a process has its number: numbers are reused."""
SETTLE_SECONDS = 2.0
"""After taking a run from another session: longer than a write lasts that it had begun, or that another taker had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The session that holds a lock."""

    session_id: str
    host: str
    pid: int
    heartbeat: float
    """Unix time in seconds of its last sign of life."""


class LostLockError(SessionFaultError):
    """Another session has taken over the run: this one must not write any more."""


class RunLock:
    """Held from `take` to `release`, with a heartbeat in between."""

    def __init__(self, files: Files, session_id: str, *, asked_to_stop: Callable[[], None] = lambda: None) -> None:
        """`asked_to_stop` is called, from another thread, when somebody asks this session to end."""
        self._files = files
        self._session_id = session_id
        self._asked_to_stop = asked_to_stop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def take(self, *, take_over: bool = False) -> None:
        """Become the one session that may write.

        Raises:
            BadInput: when another session holds the run and still lives.
        """
        if not self._files.create(LOCK_FILE, self._content()):
            self._take_from(read_holder(self._files), take_over=take_over)
        self._thread.start()

    def _take_from(self, holder: Holder | None, *, take_over: bool) -> None:
        """Overwrite the lock of a session that is gone; of several that do so the last one has the run."""
        if holder is not None and not take_over and _lives(holder, self._files):
            raise self._refusal(holder)
        self._files.write(LOCK_FILE, self._content())
        time.sleep(SETTLE_SECONDS)
        if (other := read_holder(self._files)) is None or other.session_id != self._session_id:
            raise self._refusal(other)

    def _refusal(self, holder: Holder | None) -> BadInput:
        who = "" if holder is None else f": process {holder.pid} on {holder.host}"
        return BadInput(
            f"{self._files.url}: another session writes here{who}. "
            "Stop it first, or use --take-over if you know that it is gone."
        )

    def release(self) -> None:
        """Let others write."""
        self._stop.set()
        self._thread.join()
        if holds(self._files, self._session_id):
            self._files.remove(LOCK_FILE)
        self._files.remove(STOP_FILE)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if not holds(self._files, self._session_id):
                    return
                self._files.write(LOCK_FILE, self._content())
                if self._files.exists(STOP_FILE) and self._files.read(STOP_FILE).decode() == self._session_id:
                    self._asked_to_stop()
            except OSError:
                # A full disk or a slow store now is no reason to be silent for ever.
                continue

    def _content(self) -> bytes:
        holder = Holder(session_id=self._session_id, host=socket.gethostname(), pid=os.getpid(), heartbeat=time.time())
        return json.dumps(asdict(holder)).encode()


def read_holder(files: Files) -> Holder | None:
    """Who holds the run; None if nobody does."""
    try:
        return parse_holder(files.read(LOCK_FILE))
    except FileNotFoundError:
        return None


def parse_holder(content: bytes) -> Holder | None:
    """Who holds the run whose lock has this content; a lock that cannot be read names nobody."""
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def ask_to_stop(files: Files) -> Holder | None:
    """Ask the session that writes to a run to end, wherever it is; returns which one, None if there is none."""
    holder = read_holder(files)
    if holder is not None:
        files.write(STOP_FILE, holder.session_id.encode())
    return holder


def holds(files: Files, session_id: str) -> bool:
    """Whether this session may write. A session whose driver was killed finds another's name here, or none."""
    holder = read_holder(files)
    return holder is not None and holder.session_id == session_id


def seems_to_live(holder: Holder, now: float) -> bool:
    """Whether its last heartbeat was not long before `now` (Unix time in seconds), and is not known to be gone."""
    gone = holder.host == socket.gethostname() and not _runs(holder.pid)
    return not gone and now - holder.heartbeat < STALE_SECONDS


def _lives(holder: Holder, files: Files) -> bool:
    if holder.host == socket.gethostname() and not _runs(holder.pid):
        return False
    if seems_to_live(holder, time.time()):
        return True
    # Clocks of two machines may differ: only a lock that does not change is stale.
    time.sleep(2 * HEARTBEAT_SECONDS)
    return read_holder(files) != holder


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
