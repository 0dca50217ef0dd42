"""Which probe a search runs next, and when it is done: the binary search over lengths.

A probe that says yes grows by itself, so one probe walks up from its start to its first stall. That leaves a gap
between what is proven and what failed; success is noisy and not monotone, so the next start asks for the shortest
length not proven yet, from the best memory and from a cold start in turn, and grows again while it can.

Knows nothing of other searches but the number it is given, nothing of Ray, torch or files.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.search.bracket import Bracket
from tasks.contract import COLD

FIRST_LENGTH = 8
"""Where a search begins when nothing is known of its model."""
PREDICTED_SHARE = 0.6
"""Share of the mean length of finished searches at which the next ones begin."""
MACHINE_FAILURES = 3
"""A probe that the machine failed so often is given up."""

Status = Literal["measured", "at_text_end", "at_max_length", "at_model_limit", "failed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search goes about its question."""

    retries: int = 2
    """Starts after the first that stalled, before the search ends."""
    predict: bool = True
    """Whether the first length may come from other searches of the same model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next probe of a search."""

    number: int
    attempt: int
    length: int
    """Tokens asked for."""
    start: str
    """`cold`, or the probe_id to begin from."""


def next_step(bracket: Bracket, *, limit: int, expected: float | None, settings: SearchSettings) -> Step | None:
    """The next probe, or None if the search is done.

    Args:
        bracket: What the search knows.
        limit: Longest length it may ask for, in tokens.
        expected: Mean capacity of finished searches like this one; None if there are none.
        settings: Of the sweep.
    """
    if is_done(bracket, limit=limit, settings=settings):
        return None
    number = bracket.verdicts
    if number == 0:
        length, start = first_length(expected if settings.predict else None, limit=limit), COLD
    else:
        length = bracket.proven + 1
        warm = bracket.proven_by if bracket.stalls % 2 else None
        start = warm or COLD
    return Step(number=number, attempt=bracket.attempts.get(number, 0), length=length, start=start)


def first_length(expected: float | None, *, limit: int) -> int:
    """Where a search begins: short enough to be met nearly always, since growing is cheap and a stall is not."""
    wanted = FIRST_LENGTH if expected is None else round(expected * PREDICTED_SHARE)
    return max(1, min(wanted, limit))


def is_done(bracket: Bracket, *, limit: int, settings: SearchSettings) -> bool:
    """Whether no further probe is wanted."""
    return (
        bracket.proven >= limit
        or bracket.stalls > settings.retries
        or any(count >= MACHINE_FAILURES for count in bracket.attempts.values())
    )


def status_of(bracket: Bracket, *, limit: int, limit_status: Status, settings: SearchSettings) -> Status:
    """What to say of a search: `limit_status` is for one that reached its limit."""
    if bracket.proven >= limit:
        return limit_status
    if not is_done(bracket, limit=limit, settings=settings):
        return "open"
    return "measured" if bracket.stalls > settings.retries else "failed"
