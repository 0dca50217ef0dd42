"""One Tune trial: follows its probes through an engine until all have finished.

Holds no model and no state of its own: when a trial dies, another takes over its probes. A trial reports verdicts;
memories go only to the recorder.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
from ray import tune

from orchestrator.store.probe_columns import verdict_of
from tasks.wording import counted


def name_of(config: Mapping[str, Any]) -> str:
    """The name of a trial in Tune and on the dashboard: `trial 12 · pythia-160m · 64 probes of 180-220 tokens`."""
    lengths, model = config["lengths"], config["model"].rpartition("/")[2]
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    tokens = f"{shortest}" if shortest == longest else f"{shortest}-{longest}"
    unit = "token" if longest == 1 else "tokens"
    return f"trial {config['number']} · {model} · {counted(len(lengths), 'probe')} of {tokens} {unit}"


class ProbeTrial(tune.Trainable):
    """Claims its probes, hands them to its engine, and reports those that have finished once their rows are on disk."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The share of a processor that bounds how many trials run."""
        return tune.PlacementGroupFactory([{"CPU": config["cpus"]}])

    def __repr__(self) -> str:
        """The name of the process on the dashboard; it follows one assignment after another."""
        return "trials of probes"

    def setup(self, config: dict[str, Any]) -> None:
        """Note the assignment, no more: Tune may set up a process for a trial that another process then runs."""
        self._assignment_id: str = config["assignment"]
        self._begun = False
        self._turn: Any = 0  # Any: results of actors are untyped

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for probes to finish, make their rows durable, then report their verdicts."""
        if not self._begun:
            self._recorder = ray.get_actor(self.config["recorder"])
            self._engine = ray.get_actor(self.config["engine"])
        # At first the whole assignment, later the probes it was topped up with.
        probes = ray.get(self._recorder.claim.remote(self._assignment_id, anew=not self._begun))
        if probes:
            self._turn = ray.get(self._named("submit").remote(self._assignment_id, probes, anew=not self._begun))
        self._begun = True
        taken = self._named("take").remote(self._assignment_id, self._turn, self.config["wait_seconds"])
        finished, num_slots, left = ray.get(taken)
        if finished:
            ray.get(self._recorder.record.remote(finished))
        return {
            "verdicts": [asdict(verdict_of(item)) for item in finished],
            "num_slots": num_slots,
            "left": left,
            "done": not left,
        }

    def _named(self, method: str) -> Any:
        """A method of the engine, named for this trial, so that the dashboard shows what its tasks wait for."""
        return getattr(self._engine, method).options(name=name_of(self.config))
