"""One Tune trial: follows a cohort of probes through an engine, row by row, until all have finished.

Holds no model, and nothing that is lost with it: a trial that dies is followed by another on the same cohort. What it
reports are verdicts; memories go to the recorder and nowhere else.
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
        self._turn: Any = 0  # Any: what an actor returns has no type

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next cohort in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for probes to finish, make their rows durable, then report their verdicts."""
        if not self._begun:
            self._recorder = ray.get_actor(self.config["recorder"])
            self._engine = ray.get_actor(self.config["engine"])
        # What lies ready: the whole cohort at first, and later what it was topped up with.
        probes = ray.get(self._recorder.claim.remote(self._cohort_id, anew=not self._begun))
        if probes:
            self._turn = ray.get(self._engine.submit.remote(self._cohort_id, probes, anew=not self._begun))
        self._begun = True
        finished, num_rows, left = ray.get(self._engine.take.remote(self._cohort_id, self._turn, REPORT_SECONDS))
        if finished:
            ray.get(self._recorder.record.remote(finished))
        return {
            "verdicts": [asdict(verdict_of(item)) for item in finished],
            "num_rows": num_rows,
            "left": left,
            "done": not left,
        }
