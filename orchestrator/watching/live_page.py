"""Keeps the page of a view up to date while somebody asks for it, and whole while what it shows is damaged or gone.

Knows nothing of HTTP, or of what a page shows.
"""

import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, replace

from orchestrator.errors import BadInput
from orchestrator.redact import redact
from orchestrator.watching.views import Page, View

LOOK_SECONDS = 2.0
"""Least time between two looks at the files; a session writes rows once a second."""
PAUSE_PER_SECOND = 4.0
"""Seconds of pause for each second of a processor that a look took, with the page that it built: a fifth at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a page."""

    built: float | None
    """When the page was built, Unix time in seconds: another page, another time. None before the first."""
    summary: str
    """What it shows and who writes, in a line."""
    trouble: str | None
    """Why the files cannot be read now; None if they can."""


class LivePage:
    """The page of one view. Its methods may be called from several threads."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._looking = threading.Lock()
        self._next_look = 0.0
        self._fingerprint: Hashable = None
        self._page: Page | None = None
        self._state = State(built=None, summary="", trouble=None)

    def refresh(self) -> State:
        """Look at the files unless that was done just now, and build the page anew if they have changed.

        While another thread looks, there is no wait, except for the first page.
        """
        is_first = self._page is None and self._state.trouble is None
        if not self._looking.acquire(blocking=is_first):
            return self._state
        try:
            if time.monotonic() >= self._next_look:
                before = time.thread_time()
                self._state = self._look()
                pause = max(LOOK_SECONDS, PAUSE_PER_SECOND * (time.thread_time() - before))
                self._next_look = time.monotonic() + pause
        finally:
            self._looking.release()
        return self._state

    def html(self) -> str | None:
        """The last page that could be built; None if none could yet."""
        return None if self._page is None else self._page.html

    def _look(self) -> State:
        before = self._state
        try:
            built = before.built
            # Before the build: rows that land meanwhile make the next one.
            fingerprint = self._view.fingerprint()
            if self._page is None or fingerprint != self._fingerprint:
                self._page, built = self._view.build(), time.time()
                self._fingerprint = fingerprint
            words = filter(None, (self._page.summary, self._view.writers()))
            return State(built=built, summary=" · ".join(words), trouble=None)
        except Exception as error:
            # A run in mid-flight, damaged, of another version or removed is told to its reader; others are served on.
            kind = "" if isinstance(error, OSError | BadInput) else f"{type(error).__name__}: "
            return replace(before, trouble=redact(f"{kind}{error}") or type(error).__name__)
