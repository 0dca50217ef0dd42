"""An engine as the pool holds it: its actor, what was given to it, and what it reported last.

Knows nothing of other engines.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.engine_actor import EngineReport
from orchestrator.cluster.placement import EngineNeed
from orchestrator.execution.engine_progress import EngineProgress, engine_progress


@dataclass(slots=True, kw_only=True)
class EngineHandle:
    """An engine and what was given to it."""

    name: str
    model: str
    actor: Any
    loading: Any
    """Reply of its load; None once it has loaded."""
    need: EngineNeed
    made_at: float = field(default_factory=time.monotonic)
    num_slots: int = 1
    in_flight: int = 0
    """Probes given to it that have no verdict yet."""
    expects: int = 0
    """Searches that are left for it, as last reported to it."""
    leaves: bool = False
    """Whether it gets no more probes, because its place is wanted for others."""
    lost: str | None = None
    """Why it is gone; None while it is not known to be."""
    report: EngineReport | None = None
    """What it reported about itself last."""
    report_before: EngineReport | None = None
    """The one before that."""
    asked: tuple[Any, float] | None = None
    """A report that was asked for, and when."""

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded its model and takes probes."""
        return self.loading is None and not self.leaves

    @property
    def line(self) -> EngineProgress:
        """What it does, for the live view."""
        report, before = self.report, self.report_before
        if report is None:
            return engine_progress(self.name, state="loading" if self.loading is not None else "running")
        return engine_progress(
            self.name.removeprefix("engine "),
            state="running" if report.num_busy else "idle",
            num_slots=report.num_slots,
            num_busy=report.num_busy,
            stats=report.stats,
            before=None if before is None else before.stats,
            seconds=0.0 if before is None else report.at - before.at,
        )
