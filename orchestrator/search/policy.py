"""Which probe a search runs next, and when it is done: the binary search over lengths.

A probe that succeeds grows by itself, so one probe walks up from its start to its first stall. Where that is differs
much between starts of one text, so a search makes several: from the best memory at the shortest length not proven yet,
and cold from the first length or a share of what is proven, in turn; each grows again while it can. A probe that the
machine cut short is followed by one from its memory: if the machine fails that one too, the search has failed, with
what was proven so far.

Under `policy: bisect` nothing grows: each probe asks for one length, cold. Lengths double from the first to the first
that fails, then halve what lies between proven and failed; a length has failed once `retries` + 1 starts gave up on it.
Growth with retreat is this search carried out inside one optimization.

Where a search has a grid of lengths, as published protocols do, each length is asked once, cold, and nothing grows.

What was tried, with figures, is in docs/recipe.md. Knows nothing of other searches, Ray, torch or files.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.search.bracket import Bracket
from tasks.values import COLD

MACHINE_FAILURES = 3
"""A probe that the machine failed so often is given up."""

Status = Literal["measured", "at_text_end", "at_max_length", "at_model_limit", "failed", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search goes about its question."""

    policy: Literal["grow", "bisect"] = "grow"
    """grow: each probe takes more tokens while it can; bisect: each probe asks for one length."""
    retries: int = 2
    """Starts after the first that stalled, before the search ends."""
    first_length: int = 8
    """Tokens that the first probe asks for. Growing from short is how long texts are reached: with AdamW, beginning at
    16 or 20 ended 1.2 or 3.6 tokens lower, although capacities are near 28."""
    cold_share: float | None = 0.5
    """Where a later cold start begins, as a share of what is proven; None: at the first length."""
    max_trained_tokens: int | None = None
    """Tokens, summed over the steps, that each search may train on: it makes starts until they are spent, however many
    that are. None: `retries` decides. Recipes are compared so, each with the same effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The lengths that one search may ask for."""

    limit: int
    """Longest length it may ask for, in tokens."""
    limit_status: Status = "at_text_end"
    """What it means to reach the limit: at_text_end, at_max_length or at_model_limit."""
    grid: tuple[int, ...] | None = None
    """The lengths to ask for, in tokens, in this order; None searches for the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next probe of a search."""

    number: int
    attempt: int
    length: int
    """Tokens asked for."""
    start: str
    """`cold`, or the probe_id to begin from."""
    limit: int
    """Tokens that it may grow to."""
    max_trained_tokens: int | None = None
    """Tokens, summed over its steps, that are left for it; None: no limit."""


def next_step(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> Step | None:
    """The next probe of a search that knows `bracket`, or None if the search is done."""
    if is_done(bracket, lengths, settings):
        return None
    number, limit = bracket.verdicts, lengths.limit
    attempt = bracket.attempts.get(number, 0)
    if lengths.grid is not None:
        length = lengths.grid[number]
        return Step(number=number, attempt=attempt, length=length, start=COLD, limit=length)
    budget = settings.max_trained_tokens
    left = None if budget is None else budget - bracket.trained_tokens
    if settings.policy == "bisect":
        length = _bisected(bracket, lengths, settings)
        return Step(number=number, attempt=attempt, length=length, start=COLD, limit=length, max_trained_tokens=left)
    if number == 0:
        length, start = min(settings.first_length, limit), COLD
    elif bracket.proven_by is not None and (bracket.stalls % 2 or bracket.cut_short):
        length, start = bracket.proven + 1, bracket.proven_by
    elif settings.cold_share is None:
        length, start = min(settings.first_length, limit), COLD
    else:
        length, start = max(1, round(settings.cold_share * bracket.proven)), COLD
    return Step(number=number, attempt=attempt, length=length, start=start, limit=limit, max_trained_tokens=left)


def is_done(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> bool:
    """Whether no further probe is wanted."""
    return _is_answered(bracket, lengths, settings) or any(
        count - bracket.forgiven.get(number, 0) >= MACHINE_FAILURES for number, count in bracket.attempts.items()
    )


def status_of(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> Status:
    """Whether and how a search that knows `bracket` ended."""
    if not is_done(bracket, lengths, settings):
        return "open"
    if not _is_answered(bracket, lengths, settings):
        return "failed"
    return lengths.limit_status if bracket.proven >= lengths.limit else "measured"


def _is_answered(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> bool:
    if lengths.grid is not None:
        return bracket.verdicts >= len(lengths.grid)
    if bracket.proven >= lengths.limit:
        return True
    if settings.max_trained_tokens is not None:
        return bracket.trained_tokens >= settings.max_trained_tokens
    if settings.policy == "bisect":
        failed = _failed_length(bracket, settings)
        return failed is not None and failed - bracket.proven <= 1
    return bracket.stalls > settings.retries


def _failed_length(bracket: Bracket, settings: SearchSettings) -> int | None:
    """Shortest length beyond the proven one that as many starts gave up on as there are; None if there is none."""
    failed = (length for length, starts in bracket.failures.items() if starts > settings.retries)
    return min((length for length in failed if length > bracket.proven), default=None)


def _bisected(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> int:
    """Twice what is proven until a length has failed, then the middle between the two."""
    failed = _failed_length(bracket, settings)
    if failed is None:
        return min(lengths.limit, max(settings.first_length, 2 * bracket.proven))
    return (bracket.proven + failed) // 2
