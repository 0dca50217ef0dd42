"""What an executor reports about its engines during a run.

Knows nothing of how it is shown.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tasks.values import EngineStats

EngineState: TypeAlias = Literal["loading", "running", "idle", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProgress:
    """What one engine is doing."""

    name: str
    """Its model, and a number where a run may have several engines."""
    num_slots: int
    """Probes that it can optimize at a time; 0 while unknown."""
    num_busy: int
    """Probes that it optimizes now."""
    tokens_per_second: float
    """Trained tokens per second since the last report, summed over slots."""
    steps_per_second: float
    """Steps of the engine per second since the last report."""
    longest: int
    """Longest length that it has reached, in tokens; 0 before the first."""
    state: EngineState
    """loading: its model is being read; idle: it has no probe; lost: it ended without being asked to."""


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
    """The progress of an engine whose counts were `before` so many `seconds` ago."""
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
