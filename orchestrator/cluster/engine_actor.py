"""An engine as a Ray actor: probes of many cohorts are rows of one batch.

A thread steps the engine; calls from cohort trials only queue probes and wait for what finished. Knows nothing of
searches, files or Tune.
"""

import threading
from collections.abc import Sequence

from tasks.contract import EngineSettings, EngineStats, Finished, Model, Probe, Question
from tasks.registry import TASKS

IDLE_SECONDS = 0.05


class EngineActor:
    """One frozen model on one device, serving cohorts until it is killed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arriving: list[Probe] = []
        self._cohort_of: dict[str, str] = {}
        """probe_id -> cohort, of probes that are under way."""
        self._finished: dict[str, list[Finished]] = {}
        self._fault: BaseException | None = None
        self._loaded = False
        self._num_open = 0

    def load(self, task: str, model: Model, question: Question, settings: EngineSettings) -> int:
        """Load the model and begin to step; not in the constructor, whose errors reach the driver as a dead actor.

        Returns:
            About how many rows are optimized at a time.

        Raises:
            TaskError: when the model cannot be loaded.
        """
        self._engine = TASKS[task].open_engine(model, question, settings)
        self._loaded = True
        threading.Thread(target=self._run, name="engine", daemon=True).start()
        return self._engine.num_rows

    def fault(self) -> str | None:
        """What the engine broke down with; None while it works."""
        return None if self._fault is None else repr(self._fault)

    def stats(self) -> EngineStats:
        """What the engine has done."""
        return self._engine.stats() if self._loaded else EngineStats()

    def expect(self, num_open: int) -> None:
        """So many searches are left for this engine."""
        self._num_open = num_open

    def submit(self, cohort_id: str, probes: Sequence[Probe]) -> None:
        """Queue the probes of a cohort."""
        with self._changed:
            self._finished.setdefault(cohort_id, [])
            self._cohort_of.update({probe.probe_id: cohort_id for probe in probes})
            self._arriving += probes
            self._changed.notify_all()

    def take(self, cohort_id: str, wait_seconds: float) -> tuple[list[Finished], int]:
        """What has finished of this cohort since it was last asked, waiting a while if that is nothing.

        Returns:
            What has finished, and about how many rows are optimized at a time.

        Raises:
            RuntimeError: when the engine broke down; its probes have no verdict.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._finished.get(cohort_id) or self._fault, timeout=wait_seconds)
            if self._fault is not None:
                raise RuntimeError(f"the engine broke down: {self._fault!r}") from self._fault
            taken, self._finished[cohort_id] = self._finished.get(cohort_id, []), []
            return taken, self._engine.num_rows

    def forget(self, cohort_id: str) -> None:
        """Nobody will ask for this cohort again."""
        with self._changed:
            self._finished.pop(cohort_id, None)
            self._cohort_of = {probe: cohort for probe, cohort in self._cohort_of.items() if cohort != cohort_id}

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    arrived, self._arriving = self._arriving, []
                self._engine.submit(arrived, num_open=self._num_open)
                if not self._engine.num_held:
                    with self._changed:
                        self._changed.wait_for(lambda: self._arriving, timeout=IDLE_SECONDS)
                    continue
                finished = self._engine.step()
                if finished:
                    with self._changed:
                        for item in finished:
                            cohort_id = self._cohort_of.pop(item.probe.probe_id, None)
                            if cohort_id is not None:
                                self._finished[cohort_id].append(item)
                        self._changed.notify_all()
        except BaseException as fault:
            with self._changed:
                self._fault = fault
                self._changed.notify_all()
