"""The bracket of one search: what it knows about its lengths, as a fold over the verdicts of its probes.

Knows nothing of which length comes next, of other searches, Ray, torch or files.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The part of a finished probe that the ledger needs."""

    probe_id: str
    """Identity of the probe; see `ledger.probe_id_of`."""
    search_id: str
    """Search that the probe belongs to."""
    number: int
    """Position of the probe within its search, from 0."""
    attempt: int = 0
    """How often the machine had failed during this probe before."""
    outcome: Literal["lossless", "lossy", "failed"]
    """How the probe ended. A failed one says nothing about the model."""
    length: int
    """Tokens asked for."""
    proven_length: int = 0
    """Longest length proven; 0 if none."""
    failed_length: int | None = None
    """Length that the probe gave up on; None if it gave up on none."""
    trained_tokens: int = 0
    """Sum over its steps of the tokens trained on."""
    reason: str | None = None
    """Why the machine failed; None if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """What one search knows about its lengths, in tokens."""

    proven: int = 0
    """Longest length with a proof; 0 before the first."""
    proven_by: str | None = None
    """probe_id that proved it first; None before the first."""
    failures: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Length -> number of starts that gave up on it, including lengths that were proven later."""
    num_answered: int = 0
    """Probes that ended lossless or lossy."""
    stalls: int = 0
    """Number of starts that gave up on any length."""
    trained_tokens: int = 0
    """Tokens that its probes trained on, summed over their steps."""
    attempts: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Position of a probe that is not answered yet -> how often the machine failed during it."""
    forgiven: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """The part of `attempts` that no longer counts, because the user asked to try these probes again."""
    last_reason: str | None = None
    """Reason of the machine's last failure; None if it never failed."""
    cut_short: bool = False
    """Whether the latest probe gave up on no length. In a search that is not done, under `policy: grow`, the machine
    ended it after it had proven something."""

    @property
    def smallest_failed(self) -> int | None:
        """Shortest length above `proven` that a start gave up on; None if there is none."""
        return min((length for length in self.failures if length > self.proven), default=None)


def _rank(verdict: Verdict) -> tuple[int, int, int]:
    """Among several verdicts of one probe, which no run should have, the least counts: first by attempt, then proof."""
    return verdict.attempt, verdict.proven_length, verdict.failed_length or 0


def fold(verdicts: Iterable[Verdict], *, forgiven: Mapping[int, int] = MappingProxyType({})) -> Bracket:
    """The bracket after these verdicts, in any order and repeated any number of times.

    Verdicts count up to the first probe number without one. If a damaged file held the verdict of probe 2, those of 3,
    4, .. do not count yet: the search asks for probe 2 again as it was the first time, and once it has a verdict, they
    count.
    """
    by_number: dict[int, Verdict] = {}
    attempts: dict[int, set[int]] = {}
    reasons: dict[tuple[int, int], str | None] = {}
    for verdict in verdicts:
        if verdict.outcome == "failed":
            attempts.setdefault(verdict.number, set()).add(verdict.attempt)
            reasons[verdict.number, verdict.attempt] = verdict.reason
        elif verdict.number not in by_number or _rank(verdict) < _rank(by_number[verdict.number]):
            by_number[verdict.number] = verdict
    proven, proven_by = 0, None
    failures: Counter[int] = Counter()
    by_number = {number: by_number[number] for number in takewhile(by_number.__contains__, count())}
    for verdict in by_number.values():
        if verdict.proven_length > proven:
            proven, proven_by = verdict.proven_length, verdict.probe_id
        if verdict.failed_length is not None:
            failures[verdict.failed_length] += 1
    return Bracket(
        proven=proven,
        proven_by=proven_by,
        failures=MappingProxyType(dict(failures)),
        num_answered=len(by_number),
        stalls=failures.total(),
        trained_tokens=sum(verdict.trained_tokens for verdict in by_number.values()),
        attempts=MappingProxyType({number: len(seen) for number, seen in attempts.items() if number not in by_number}),
        forgiven=forgiven,
        last_reason=reasons[max(reasons)] if reasons else None,
        cut_short=bool(by_number) and by_number[len(by_number) - 1].failed_length is None,
    )
