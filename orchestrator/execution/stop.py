"""Why a session ends before its searches do: a signal, or a spent budget."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """False until the session should end; then true, with the reason."""

    def __init__(self, *, budget_seconds: float | None = None) -> None:
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        self.interrupted = False

    @property
    def budget_spent(self) -> bool:
        """Whether the session has used up its time."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def interrupt(self) -> None:
        """Ask the session to end."""
        self.interrupted = True

    def __bool__(self) -> bool:
        return self.interrupted or self.budget_spent


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the session to end; a second one ends the process as usual."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop.interrupted = True
        for asked in before:
            signal.signal(asked, before[asked])

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
