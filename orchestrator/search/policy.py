"""Which probe a search runs next, and when it is done: the binary search over lengths.

A probe that says yes grows by itself, so one probe walks up from its start to its first stall. Where that is differs
much between starts of one text, so a search makes several: from the best memory at the shortest length not proven yet,
and cold from half of what is proven, in turn; each grows again while it can. A probe that the machine cut short is
followed by one from its memory: if the machine fails that one too, the search has failed, with what was proven so far.

What was tried, with figures, is in docs/recipe.md. Knows nothing of other searches, Ray, torch or files.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.search.bracket import Bracket
from tasks.contract import COLD

FIRST_LENGTH = 8
"""Where a search begins. Growing from short is how long texts are reached: beginning at 16 or 20 ended 1.2 or 3.6
tokens lower, although capacities are near 28."""
COLD_SHARE = 0.5
"""Where a later cold start begins, as a share of what is proven: from here it gained 1.1 tokens, from all of it .4."""
MACHINE_FAILURES = 3
"""A probe that the machine failed so often is given up."""

Status = Literal["measured", "at_text_end", "at_max_length", "at_model_limit", "failed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search goes about its question."""

    retries: int = 2
    """Starts after the first that stalled, before the search ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next probe of a search."""

    number: int
    attempt: int
    length: int
    """Tokens asked for."""
    start: str
    """`cold`, or the probe_id to begin from."""


def next_step(bracket: Bracket, *, limit: int, settings: SearchSettings) -> Step | None:
    """The next probe, or None if the search is done.

    Args:
        bracket: What the search knows.
        limit: Longest length it may ask for, in tokens.
        settings: Of the sweep.
    """
    if is_done(bracket, limit=limit, settings=settings):
        return None
    number = bracket.verdicts
    if number == 0:
        length, start = min(FIRST_LENGTH, limit), COLD
    elif bracket.proven_by is not None and (bracket.stalls % 2 or bracket.cut_short):
        length, start = bracket.proven + 1, bracket.proven_by
    else:
        length, start = max(1, round(COLD_SHARE * bracket.proven)), COLD
    return Step(number=number, attempt=bracket.attempts.get(number, 0), length=length, start=start)


def is_done(bracket: Bracket, *, limit: int, settings: SearchSettings) -> bool:
    """Whether no further probe is wanted."""
    return (
        bracket.proven >= limit
        or bracket.stalls > settings.retries
        or any(
            count - bracket.forgiven.get(number, 0) >= MACHINE_FAILURES for number, count in bracket.attempts.items()
        )
    )


def status_of(bracket: Bracket, *, limit: int, limit_status: Status, settings: SearchSettings) -> Status:
    """What to say of a search: `limit_status` is for one that reached its limit."""
    if bracket.proven >= limit:
        return limit_status
    if not is_done(bracket, limit=limit, settings=settings):
        return "open"
    return "measured" if bracket.stalls > settings.retries else "failed"
