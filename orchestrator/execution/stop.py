"""Why a session ends before its searches do: a signal, a request, or a spent budget."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

END = b"\0"
"""Is no signal's number."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a terminal that is gone."""
SAVING = "saving what is in flight; once more to drop it"
DROP_SECONDS = 5.0
"""Longest time that a second Ctrl-C waits for code that does not listen, such as a step of a large model."""


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
def stop_on_signals(stop: Stop, on_message: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """The first of SIGNALS asks the session to end and says so at once; the next one ends the process as usual.

    A signal that the process ignores, as under nohup, stays ignored. `on_message` is called from another thread.
    Outside of the main thread, which alone gets signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.interrupted = True
        for asked in before:
            signal.signal(asked, before[asked])

    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if not _stays_ignored(number, handler)}
    with _listening(stop, before, on_message):
        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _listening(stop: Stop, handlers: Mapping[Any, Any], on_message: Callable[[str], None]) -> Iterator[None]:
    """A thread hears signals at once, even while the main thread runs code in which Python handles none."""
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    thread = threading.Thread(target=_listen, args=(ear, stop, handlers, on_message), name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(mouth, END)
        thread.join()
        os.close(ear)
        os.close(mouth)


def _listen(ear: int, stop: Stop, handlers: Mapping[Any, Any], on_message: Callable[[str], None]) -> None:
    """Read the numbers of signals until END; ends the process if a second one has not ended it in time."""
    num_heard, patience = 0, None
    while select.select([ear], [], [], patience)[0]:
        if (heard := os.read(ear, 1)) == END:
            return
        if (number := heard[0]) not in handlers:
            continue
        num_heard += 1
        if num_heard == 1:
            stop.interrupt()
            with contextlib.suppress(Exception):  # the terminal may be gone
                on_message(SAVING)
        elif handlers[number] in (signal.SIG_DFL, signal.default_int_handler):
            patience = DROP_SECONDS
    os._exit(128 + signal.SIGINT)


def _stays_ignored(number: int, handler: object) -> bool:
    # A shell without job control lets its background jobs ignore SIGINT, too; `capsweep` did listen to that always.
    return number == signal.SIGHUP and handler == signal.SIG_IGN
