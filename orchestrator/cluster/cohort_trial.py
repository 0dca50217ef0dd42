"""One Tune trial: follows a cohort of probes through an engine, row by row, until all have finished.

Holds no model. What it reports are verdicts; memories go to the recorder and nowhere else.
"""

from dataclasses import asdict
from typing import Any

import ray
from ray import tune

from orchestrator.search.bracket import verdict_of

REPORT_SECONDS = 1.0


class CohortTrial(tune.Trainable):
    """Claims a cohort, hands it to its engine, and reports what has finished once it is on disk."""

    def setup(self, config: dict[str, Any]) -> None:
        """Note which cohort this is. Tune may set up a process for a trial that another process then runs."""
        self._cohort_id: str = config["cohort"]
        self._begun = False
        self._left = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cohort in the same process."""
        self.setup(new_config)
        return True

    def _begin(self) -> None:
        self._recorder = ray.get_actor(self.config["recorder"])
        self._engine = ray.get_actor(self.config["engine"])
        self._claim(wait=True)
        self._begun = True

    def _claim(self, *, wait: bool) -> None:
        """Hand to the engine what lies ready: the cohort at first, and what it was topped up with since."""
        probes = ray.get(self._recorder.claim.remote(self._cohort_id, wait=wait))
        if probes:
            ray.get(self._engine.submit.remote(self._cohort_id, probes))
            self._left += len(probes)

    def step(self) -> dict[str, Any]:
        """Wait for probes to finish, make their rows durable, then report their verdicts."""
        if self._begun:
            self._claim(wait=False)
        else:
            self._begin()
        finished, num_rows = ray.get(self._engine.take.remote(self._cohort_id, REPORT_SECONDS))
        if finished:
            ray.get(self._recorder.record.remote(finished))
            self._left -= len(finished)
        if self._left == 0:
            self._engine.forget.remote(self._cohort_id)
        return {
            "verdicts": [asdict(verdict_of(item)) for item in finished],
            "num_rows": num_rows,
            "left": self._left,
            "done": not self._left,
        }
