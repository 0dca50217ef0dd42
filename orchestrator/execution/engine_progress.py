"""What an executor reports of its engines while a run goes on.

Knows nothing of how it is shown.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tasks.values import EngineStats

EngineState: TypeAlias = Literal["loading", "running", "idle", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProgress:
    """What one engine does now."""

    name: str
    """Which one it is: its model, and where there are several its node or device."""
    num_slots: int
    """Probes that it can optimize at a time; 0 while that is not known."""
    num_busy: int
    """Probes that it optimizes now."""
    tokens_per_second: float
    """Tokens trained on, summed over slots and steps, a second lately."""
    steps_per_second: float
    """Optimizer steps of all its slots together, a second lately."""
    longest: int
    """Tokens of the longest length that it has reached; 0 before the first."""
    state: EngineState
    """loading: reads its model; idle: has no probe; lost: ended without being asked to."""


def engine_progress(
    name: str,
    *,
    state: EngineState,
    num_slots: int = 0,
    num_busy: int = 0,
    stats: EngineStats | None = None,
    before: EngineStats | None = None,
    seconds: float = 0.0,
) -> EngineProgress:
    """The line of an engine whose counts were `before` so many seconds ago."""
    stats = stats or EngineStats()
    before = before or stats
    seconds = max(1e-9, seconds)
    return EngineProgress(
        name=name,
        num_slots=num_slots,
        num_busy=min(num_busy, num_slots),
        tokens_per_second=(stats.trained_tokens - before.trained_tokens) / seconds,
        steps_per_second=(stats.steps - before.steps) / seconds,
        longest=stats.longest,
        state=state,
    )
