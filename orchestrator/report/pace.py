"""How fast a run goes, and how much time is left at that pace.

Pure: the caller passes the time. Of searches it knows only how many probes each has run.
"""

from collections import deque
from collections.abc import Mapping

WINDOW_SECONDS = 60.0
"""Time over which a pace is taken: long enough to smooth verdicts that arrive together."""
FEWEST_NOTES = 10
"""Notes that are kept even when they are older than the window: some probes take minutes."""
ENOUGH_SECONDS = 5.0
"""Least time for which a pace is reported: the first verdicts arrive together."""
ENOUGH_SEARCHES = 5
"""Fewest finished searches from which the time left is estimated."""


class Pace:
    """The recent pace of a run; times are in seconds of any one clock."""

    def __init__(self, now: float) -> None:
        self._notes: deque[tuple[float, int, int]] = deque()
        self._since = now
        """The time from which `_notes` count."""

    def note(self, now: float, *, verdicts: int, searches: int) -> None:
        """Count new verdicts, and the searches that they finished."""
        self._notes.append((now, verdicts, searches))
        while len(self._notes) > FEWEST_NOTES and self._notes[0][0] < now - WINDOW_SECONDS:
            self._since = self._notes.popleft()[0]

    def per_minute(self, now: float) -> tuple[float, float] | None:
        """Recent verdicts and finished searches a minute; None until enough is known."""
        seconds = now - self._since
        if not self._notes or seconds < ENOUGH_SECONDS:
            return None
        verdicts, searches = (sum(note[i] for note in self._notes) for i in (1, 2))
        return 60 * verdicts / seconds, 60 * searches / seconds


def seconds_left(
    *, finished: Mapping[int, int], unfinished: Mapping[int, int], verdicts_per_minute: float
) -> float | None:
    """Estimated seconds until no search is open; None until enough is known.

    Assumes that a search needs as many probes as finished ones did on average, and at least one more than it has run.

    Args:
        finished: Number of probes -> how many finished searches ran that many.
        unfinished: Number of probes -> how many open searches have run that many.
        verdicts_per_minute: The recent pace.
    """
    num_finished = sum(finished.values())
    if not sum(unfinished.values()):
        return 0.0
    if num_finished < ENOUGH_SEARCHES or verdicts_per_minute <= 0:
        return None
    mean = sum(probes * searches for probes, searches in finished.items()) / num_finished
    probes_left = sum(searches * max(1.0, mean - probes) for probes, searches in unfinished.items())
    return 60 * probes_left / verdicts_per_minute


def duration(seconds: float) -> str:
    """A duration, rounded to units that are precise enough: 40 s, 12 min, 3 h 20 min, 2 d 5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
