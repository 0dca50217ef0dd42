"""Metrics of a run: counters and gauges named `capsweep_..`, to be scraped from the cluster's nodes.

Ray exports them on every node, with the prefix `ray_`. Knows nothing of how the numbers are made.
"""

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge

from orchestrator.search.bracket import Verdict
from orchestrator.search.ledger import Ledger
from tasks.values import EngineStats, Failed, Finished

ENGINE_TAGS = ("run", "model", "engine")
RUN_TAGS = ("run",)


class EngineMetrics:
    """The metrics of one engine, set in its process."""

    def __init__(self, *, run: str, model: str, engine: str) -> None:
        tags = {"run": run, "model": model, "engine": engine}

        def counter(name: str, description: str) -> Counter:
            made = Counter(f"capsweep_{name}", description=description, tag_keys=ENGINE_TAGS)
            made.set_default_tags(tags)
            return made

        def gauge(name: str, description: str) -> Gauge:
            made = Gauge(f"capsweep_{name}", description=description, tag_keys=ENGINE_TAGS)
            made.set_default_tags(tags)
            return made

        self._tokens = counter("tokens_total", "Tokens trained on, summed over slots and optimizer steps.")
        self._slot_steps = counter("slot_steps_total", "Optimizer steps of single slots.")
        self._finished_steps = counter("finished_steps_total", "Optimizer steps of the probes that finished.")
        self._failing_steps = counter("failing_steps_total", "Optimizer steps of those probes after their last gain.")
        self._slots = gauge("slots", "Slots that fit into a step.")
        self._slots_busy = gauge("slots_busy", "Slots that are optimized.")
        self._probes_waiting = gauge("probes_waiting", "Probes that wait for a slot.")
        self._exported = EngineStats()

    def export(self, stats: EngineStats, *, num_slots: int, num_busy: int) -> None:
        """Export what an engine has done since the last export, and its present load."""
        if stats.trained_tokens > self._exported.trained_tokens:
            self._tokens.inc(stats.trained_tokens - self._exported.trained_tokens)
            self._slot_steps.inc(stats.slot_steps - self._exported.slot_steps)
        self._exported = stats
        self._slots.set(num_slots)
        self._slots_busy.set(min(num_slots, num_busy))
        self._probes_waiting.set(max(0, num_busy - num_slots))

    def count(self, finished: Sequence[Finished]) -> None:
        """Count the steps of probes that finished."""
        for item in finished:
            if isinstance(item.outcome, Failed):
                continue
            measured = item.outcome.measurement
            if measured.steps:
                self._finished_steps.inc(measured.steps)
            if measured.steps > measured.steps_to_proof:
                self._failing_steps.inc(measured.steps - measured.steps_to_proof)


class RunMetrics:
    """The metrics of one run, set in its driver."""

    def __init__(self, *, run: str) -> None:
        self._verdicts = Counter(
            "capsweep_verdicts_total", description="Probes whose rows are on disk.", tag_keys=(*RUN_TAGS, "outcome")
        )
        self._searches = Gauge("capsweep_searches", description="Searches by state.", tag_keys=(*RUN_TAGS, "state"))
        self._engines = Gauge(
            "capsweep_engines",
            description="Engines ready, loading and wanted.",
            tag_keys=(*RUN_TAGS, "state"),
        )
        self._restarts = Gauge("capsweep_engine_restarts", description="Engines that were lost.", tag_keys=RUN_TAGS)
        for metric in (self._verdicts, self._searches, self._engines, self._restarts):
            metric.set_default_tags({"run": run})

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts whose rows are on disk."""
        for verdict in verdicts:
            self._verdicts.inc(tags={"outcome": verdict.outcome})

    def export(self, ledger: Ledger, *, ready: int, loading: int, wanted: int, restarts: int) -> None:
        """Export the number of searches, engines and restarts."""
        for state, number in (
            ("done", ledger.num_searches - ledger.num_open),
            ("in_flight", ledger.num_in_flight),
            ("waiting", ledger.num_open - ledger.num_in_flight),
        ):
            self._searches.set(number, tags={"state": state})
        for state, number in (("ready", ready), ("loading", loading), ("wanted", wanted)):
            self._engines.set(number, tags={"state": state})
        self._restarts.set(restarts)
