"""The probes that one trial follows: what Tune shows of them, and their outcomes if their engine is lost.

Starts nothing and calls no actor. Knows nothing of the ledger or of other assignments.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.engine_handle import EngineHandle
from orchestrator.cluster.neighbours import RECORDER_NAME
from orchestrator.cluster.placement import SPARE_CPUS
from orchestrator.cluster.trial_sizing import quiet_seconds
from tasks.values import Failed, Finished, Probe
from tasks.wording import counted


@dataclass(slots=True, kw_only=True)
class Assignment:
    """Probes that one trial follows; if that trial is lost, another follows them."""

    assignment_id: str
    number: int
    """Counted from 0, for the name of its trials."""
    engine: EngineHandle
    probes: dict[str, Probe] = field(default_factory=dict)
    """By probe_id; those that have finished are removed."""
    losses: int = 0
    """Trials of this assignment that were lost."""

    def config(self, *, most_running: int) -> dict[str, Any]:
        """The configuration of a trial that follows this assignment, which Tune shows.

        Args:
            most_running: Most trials that run at a time.
        """
        return {
            "assignment": self.assignment_id,
            "number": self.number,
            # A trial only waits, but this share of the spare processors bounds how many run.
            "cpus": SPARE_CPUS / most_running,
            "engine": self.engine.name,
            "recorder": RECORDER_NAME,
            "wait_seconds": quiet_seconds(most_running),
            "model": self.engine.model,
            "probes": list(self.probes),
            "lengths": [probe.length for probe in self.probes.values()],
        }

    def failed(self, why_lost: str | None, *, known: Collection[str], now: float) -> list[Finished]:
        """Its probes as failed by the machine.

        Args:
            why_lost: Why its engine is gone; None if the engine works, and trials were lost instead.
            known: Ids of probes that already have a verdict.
            now: Unix time in seconds.
        """
        trials = f"the process of its trial was lost {counted(self.losses, 'time')}"
        outcome = Failed(reason=trials if why_lost is None else f"its engine was lost: {why_lost}")
        return [
            Finished(probe=probe, outcome=outcome, device="", started_at=now, finished_at=now)
            for probe in self.probes.values()
            if probe.probe_id not in known
        ]
