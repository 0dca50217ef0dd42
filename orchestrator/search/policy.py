"""Decides which probe a search runs next, and when the search is done: the binary search over lengths.

Under `policy: grow`, a probe that succeeds grows by itself until it stalls. Starts of one text stall at very different
lengths, so a search makes several starts, and ends after `retries` + 1 of them. The first begins cold, at the first
length; the second from the search's best memory, at the shortest length not yet proven; the third cold, and so on. If
the machine cuts a probe short, the next one begins from the best memory, too. A search with a probe that the machine
failed MACHINE_FAILURES times ends as failed, and keeps what it has proven.

Under `policy: bisect`, probes begin cold, ask for one length, and do not grow. Lengths double from the first one until
one fails; then each probe halves the distance between the proven and the failed length. A length has failed once
`retries` + 1 starts gave up on it. `grow` needs no halving: a probe that grows and retreats does it by itself.

If a search has a grid of lengths, as published protocols do, it asks for each length once, cold and without growth.

docs/recipe.md lists what was tried, with figures. Knows nothing of other searches, Ray, torch or files.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.search.bracket import Bracket
from tasks.values import COLD

MACHINE_FAILURES = 3
"""Failures of the machine after which a probe, and its search, is given up."""

Status = Literal["measured", "at_text_end", "at_max_length", "at_model_limit", "failed", "open"]
"""How a search ended, or `open`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a search looks for its answer."""

    policy: Literal["grow", "bisect"] = "grow"
    """grow: a probe that succeeds takes more tokens. bisect: a probe asks for one length."""
    retries: int = 2
    """Stalled starts after the first one before the search ends."""
    first_length: int = 8
    """Tokens that the first probe asks for; each recipe suggests its own (`Recipe.search_defaults`), and AdamW's is
    this one. Probes reach long texts by growing from short ones: with AdamW, starts at 16 or 20 tokens ended 1.2 or
    3.6 tokens lower, although capacities are near 28."""
    cold_share: float | None = 0.5
    """Length of a later cold start, as a share of the proven length; None: the first length. Each recipe suggests its
    own, as above."""
    max_trained_tokens: int | None = None
    """Trained tokens of each search, which makes starts until it has spent them. None: `retries` ends the search. A
    sweep file has no such field: `capsweep tune` and the benchmarks set it, to compare recipes at equal effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The lengths that one search may ask for."""

    limit: int
    """Longest length it may ask for, in tokens."""
    limit_status: Status = "at_text_end"
    """Status of a search that reaches the limit: at_text_end, at_max_length or at_model_limit."""
    grid: tuple[int, ...] | None = None
    """Lengths in tokens to ask for, in this order; None: search for the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextProbe:
    """The next probe of a search."""

    number: int
    """Position of the probe within its search, from 0."""
    attempt: int
    """How often the machine has failed during this probe."""
    length: int
    """Tokens asked for."""
    start: str
    """`cold`, or the probe_id to begin from."""
    limit: int
    """Tokens to which the probe may grow."""
    max_trained_tokens: int | None = None
    """Trained tokens that the search has left; None: no limit."""


def next_probe(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> NextProbe | None:
    """The next probe of a search with this bracket; None if the search is done."""
    if is_done(bracket, lengths, settings):
        return None
    number, limit = bracket.num_answered, lengths.limit
    attempt = bracket.attempts.get(number, 0)
    if lengths.grid is not None:
        length = lengths.grid[number]
        return NextProbe(number=number, attempt=attempt, length=length, start=COLD, limit=length)
    most = settings.max_trained_tokens
    left = None if most is None else most - bracket.trained_tokens
    if settings.policy == "bisect":
        length = _bisected(bracket, lengths, settings)
        return NextProbe(
            number=number, attempt=attempt, length=length, start=COLD, limit=length, max_trained_tokens=left
        )
    if number == 0:
        length, start = min(settings.first_length, limit), COLD
    elif bracket.proven_by is not None and (bracket.stalls % 2 or bracket.cut_short):
        length, start = bracket.proven + 1, bracket.proven_by
    elif settings.cold_share is None:
        length, start = min(settings.first_length, limit), COLD
    else:
        length, start = max(1, round(settings.cold_share * bracket.proven)), COLD
    return NextProbe(number=number, attempt=attempt, length=length, start=start, limit=limit, max_trained_tokens=left)


def is_done(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> bool:
    """Whether no further probe is wanted."""
    return _is_answered(bracket, lengths, settings) or any(
        count - bracket.forgiven.get(number, 0) >= MACHINE_FAILURES for number, count in bracket.attempts.items()
    )


def status_of(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> Status:
    """How a search with this bracket ended, or `open`."""
    if not is_done(bracket, lengths, settings):
        return "open"
    if not _is_answered(bracket, lengths, settings):
        return "failed"
    return lengths.limit_status if bracket.proven >= lengths.limit else "measured"


def _is_answered(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> bool:
    if lengths.grid is not None:
        return bracket.num_answered >= len(lengths.grid)
    if bracket.proven >= lengths.limit:
        return True
    if settings.max_trained_tokens is not None:
        return bracket.trained_tokens >= settings.max_trained_tokens
    if settings.policy == "bisect":
        failed = _failed_length(bracket, settings)
        return failed is not None and failed - bracket.proven <= 1
    return bracket.stalls > settings.retries


def _failed_length(bracket: Bracket, settings: SearchSettings) -> int | None:
    """Shortest length above the proven one that `retries` + 1 starts gave up on; None if there is none."""
    failed = (length for length, starts in bracket.failures.items() if starts > settings.retries)
    return min((length for length in failed if length > bracket.proven), default=None)


def _bisected(bracket: Bracket, lengths: Lengths, settings: SearchSettings) -> int:
    """Twice the proven length until a length has failed, then the middle between the proven and the failed length."""
    failed = _failed_length(bracket, settings)
    if failed is None:
        return min(lengths.limit, max(settings.first_length, 2 * bracket.proven))
    return (bracket.proven + failed) // 2
