"""How fast a run goes, and how long it will take at that pace.

Pure: the caller passes the time. Knows nothing of searches but how many probes each has run.
"""

from collections import deque
from collections.abc import Mapping

WINDOW_SECONDS = 60.0
"""What `lately` means: long enough that verdicts which come together do not show."""
FEWEST_NOTES = 10
"""Where probes take minutes, lately goes back to the last so many notes."""
ENOUGH_SECONDS = 5.0
"""Of a shorter time no pace is reported: the first verdicts come together."""
ENOUGH_SEARCHES = 5
"""Finished searches from which a mean is taken; of fewer no time left is reported."""


class Pace:
    """What finished lately; times in seconds of any one clock."""

    def __init__(self, now: float) -> None:
        self._notes: deque[tuple[float, int, int]] = deque()
        self._since = now
        """When what `_notes` holds began to be counted."""

    def note(self, now: float, *, verdicts: int, searches: int) -> None:
        """So many verdicts have come, and so many searches are finished by them."""
        self._notes.append((now, verdicts, searches))
        while len(self._notes) > FEWEST_NOTES and self._notes[0][0] < now - WINDOW_SECONDS:
            self._since = self._notes.popleft()[0]

    def per_minute(self, now: float) -> tuple[float, float] | None:
        """Verdicts and finished searches a minute lately; None until enough is known."""
        seconds = now - self._since
        if not self._notes or seconds < ENOUGH_SECONDS:
            return None
        verdicts, searches = (sum(note[i] for note in self._notes) for i in (1, 2))
        return 60 * verdicts / seconds, 60 * searches / seconds


def seconds_left(
    *, finished: Mapping[int, int], unfinished: Mapping[int, int], verdicts_per_minute: float
) -> float | None:
    """Seconds until no search is open, if the rest goes as what is finished did; None until enough is known.

    A search is taken to need as many probes as finished ones did on average, and at least one more than it has run.

    Args:
        finished: Number of probes -> finished searches that ran so many.
        unfinished: Number of probes -> open searches that have run so many.
        verdicts_per_minute: How fast they come lately.
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
    """About so long, in the largest unit that is precise enough: 40 s, 12 min, 3 h 20 min, 2 d 5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
