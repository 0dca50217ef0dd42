"""What a fault of the machine leaves a user to do.

Knows nothing of what runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import SessionFaultError
from orchestrator.store.lock import LostLockError

RESUME = "`capsweep resume` continues the run"


@contextmanager
def can_go_on(how: str) -> Iterator[None]:
    """Within it, there is something on disk to go on from: a fault of the machine tells how."""
    try:
        yield
    except LostLockError:  # another session goes on
        raise
    except (OSError, SessionFaultError, MemoryError) as fault:
        fault.add_note(f"What is on disk is kept; {how}.")
        raise
