"""The pool's handle of an engine: its actor, its load of probes, and its last report.

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
    """An engine of the pool."""

    name: str
    model: str
    actor: Any
    loading: Any
    """Reference to the result of `load`; None once it has loaded."""
    need: EngineNeed
    made_at: float = field(default_factory=time.monotonic)
    num_slots: int = 1
    in_flight: int = 0
    """Probes given to it that have no verdict yet."""
    expects: int = 0
    """Searches that are left for it, as it was last told."""
    leaves: bool = False
    """Whether it gets no more probes, because other engines need its place."""
    lost: str | None = None
    """Why it is gone; None while it is not known to be gone."""
    report: EngineReport | None = None
    """Its last report."""
    report_before: EngineReport | None = None
    """The one before that."""
    asked: tuple[Any, float] | None = None
    """Reference to a report that was requested, and the time of the request."""

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded its model and takes probes."""
        return self.loading is None and not self.leaves

    @property
    def line(self) -> EngineProgress:
        """Its progress, for the live view."""
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
