"""Why a session ends before its searches do: a signal, or a spent budget."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """False until the session should end; then it states why."""

    def __init__(self, *, budget_seconds: float | None = None) -> None:
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        self.interrupted = False

    @property
    def budget_spent(self) -> bool:
        """Whether the time given to the session is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def interrupt(self) -> None:
        """Somebody asks for the end."""
        self.interrupted = True

    def __bool__(self) -> bool:
        return self.interrupted or self.budget_spent


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM ask the session to end; a second one ends the process as usual."""

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
