"""The lock of a run: one session writes to it at a time.

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
"""Holds the id of a session that was asked to end."""
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A holder silent for this long counts as gone, even if a process has its pid: pids are reused."""
SETTLE_SECONDS = 2.0
"""Wait after taking over a lock: longer than a write that the old holder, or another taker, had begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The session that holds a lock."""

    session_id: str
    host: str
    pid: int
    heartbeat: float
    """Unix time of its last heartbeat, in seconds."""


class LostLockError(SessionFaultError):
    """Another session has taken over the run, so this one must not write any more."""


class RunLock:
    """Held from `take` to `release`, with a heartbeat in between."""

    def __init__(self, files: Files, session_id: str, *, asked_to_stop: Callable[[], None] = lambda: None) -> None:
        """`asked_to_stop` is called, from another thread, when this session is asked to end."""
        self._files = files
        self._session_id = session_id
        self._asked_to_stop = asked_to_stop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def take(self, *, take_over: bool = False) -> None:
        """Become the one session that may write.

        Raises:
            BadInput: when another session holds the run and is alive.
        """
        if not self._files.create(LOCK_FILE, self._content()):
            self._take_from(read_holder(self._files), take_over=take_over)
        self._thread.start()

    def _take_from(self, holder: Holder | None, *, take_over: bool) -> None:
        """Overwrite the lock of a session that is gone; if several sessions do so, the last one holds the run."""
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
                if self._files.exists(STOP_FILE) and self._files.read(STOP_FILE) == self._session_id.encode():
                    self._asked_to_stop()
            except OSError:
                # A full disk or a slow store may recover, so the heartbeat must go on.
                continue

    def _content(self) -> bytes:
        holder = Holder(session_id=self._session_id, host=socket.gethostname(), pid=os.getpid(), heartbeat=time.time())
        return json.dumps(asdict(holder)).encode()


def read_holder(files: Files) -> Holder | None:
    """The session that holds the run; None if there is none."""
    try:
        return parse_holder(files.read(LOCK_FILE))
    except FileNotFoundError:
        return None


def parse_holder(content: bytes) -> Holder | None:
    """The holder that a lock's content names; None if it cannot be parsed."""
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def ask_to_stop(files: Files) -> Holder | None:
    """Ask the session that writes to a run, on any machine, to end; returns it, or None if there is none."""
    holder = read_holder(files)
    if holder is not None:
        files.write(STOP_FILE, holder.session_id.encode())
    return holder


def holds(files: Files, session_id: str) -> bool:
    """Whether this session may write: the lock of a session whose driver was killed names another, or is gone."""
    holder = read_holder(files)
    return holder is not None and holder.session_id == session_id


def seems_to_live(holder: Holder, now: float) -> bool:
    """Whether the holder's last heartbeat is recent at `now` (Unix time in seconds), and its process not known gone."""
    gone = holder.host == socket.gethostname() and not _runs(holder.pid)
    return not gone and now - holder.heartbeat < STALE_SECONDS


def _lives(holder: Holder, files: Files) -> bool:
    if holder.host == socket.gethostname() and not _runs(holder.pid):
        return False
    if seems_to_live(holder, time.time()):
        return True
    # The clocks of two machines may differ, so only a lock that does not change is stale.
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
