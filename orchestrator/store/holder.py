"""The session that holds a run, and whether its process is known to be gone. Knows nothing of files."""

import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

STALE_SECONDS = 30.0
"""A holder silent for this long counts as gone, even if a process has its pid: pids are reused."""
MOST_PID = 2**31 - 1
LATEST = 2.0**37
"""A Unix time of which there are dates: in seconds, the year 6325."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
PID_NAMESPACE = "/proc/self/ns/pid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The session that holds a run."""

    session_id: str
    host: str
    pid: int
    heartbeat: float
    """Unix time of its last heartbeat, in seconds."""
    boot_id: str | None = None
    """Linux's name of the time since the machine was started; empty where there is none, None in earlier versions."""
    pid_namespace: str | None = None
    """In which processes `pid` counts: containers of one host name have pids of their own. None as above."""
    ended: bool = False
    """Whether the session has let the run go."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def as_json(self) -> bytes:
        """The content of a lock."""
        return json.dumps(asdict(self)).encode()


def this_process(session_id: str, *, heartbeat: float) -> Holder:
    """A session of this process."""
    boot_id = namespace = ""
    with suppress(OSError):
        with open(BOOT_ID) as file:
            boot_id = file.read().strip()
        namespace = os.readlink(PID_NAMESPACE)
    return Holder(
        session_id=session_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        heartbeat=heartbeat,
        boot_id=boot_id,
        pid_namespace=namespace,
    )


def parse_holder(content: bytes) -> Holder | None:
    """The holder that a lock's content names; None if it cannot be parsed."""
    try:
        holder = Holder(**json.loads(content))
        whole = isinstance(holder.session_id, str) and isinstance(holder.pid, int) and 0 < holder.pid <= MOST_PID
        heartbeat = float(holder.heartbeat)
        return replace(holder, heartbeat=heartbeat) if whole and 0 <= heartbeat < LATEST else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def seems_to_live(holder: Holder, now: float) -> bool:
    """Whether the holder's last heartbeat is recent at `now` (Unix time in seconds), and its process not known gone."""
    return not holder.ended and not is_gone(holder) and now - holder.heartbeat < STALE_SECONDS


def writer_of(holder: Holder | None, now: float) -> str | None:
    """Who writes to a run with this lock at `now` (Unix time in seconds); None if nobody seems to."""
    return str(holder) if holder and seems_to_live(holder, now) else None


def is_gone(holder: Holder) -> bool:
    """Whether the holder's pid would be seen from here, and no process has it.

    Two machines or containers may have one host name. Then only the heartbeat can say whether the holder lives.
    """
    here = this_process(holder.session_id, heartbeat=holder.heartbeat)
    if holder.boot_id is not None:
        if (here.boot_id, here.pid_namespace) != (holder.boot_id, holder.pid_namespace):
            return False
        if sys.platform == "linux" and not (here.boot_id and here.pid_namespace):
            return False
    return here.host == holder.host and not _runs(holder.pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
