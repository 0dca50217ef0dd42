"""The engines of a run: opened for a model when it has work, closed when it has none left.

Models run one after another, so that each gets the whole machine.
"""

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.engine_actor import EngineActor
from orchestrator.plan import Plan
from orchestrator.search.ledger import Ledger
from orchestrator.stop import Stop
from tasks.contract import EngineSettings, EngineStats

ANSWER_SECONDS = 10.0
"""An engine answers between two steps; one that does not is taken to be gone."""
WAITING_CALLS = 1000
"""Calls an actor serves at a time: nearly all of them wait for a cohort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResources:
    """What one engine takes, and how many there are."""

    count: int
    cpus: float
    gpus: float


@dataclass(slots=True, kw_only=True)
class EngineHandle:
    """An engine and what was given to it."""

    name: str
    actor: Any
    num_rows: int = 1
    in_flight: int = 0
    """Probes given and not yet heard of."""


@dataclass(slots=True, kw_only=True)
class EnginePool:
    """Engines of the model that runs now."""

    plan: Plan
    settings: EngineSettings
    resources: EngineResources
    stop: Stop
    model: str | None = None
    engines: list[EngineHandle] = field(default_factory=list)
    stats: EngineStats = field(default_factory=EngineStats)
    """What the engines that were closed have done."""

    def open(self, model: str) -> None:
        """Make engines for `model` the ones that run; returns when they have loaded it, or the session should end.

        Raises:
            TaskError: when the model cannot be loaded.
        """
        if model == self.model:
            return
        self.close()
        self.model = model
        remote: Any = ray.remote(EngineActor)
        for number in range(self.resources.count):
            name = f"engine {model} {number}"
            actor = remote.options(
                name=name,
                num_cpus=self.resources.cpus,
                num_gpus=self.resources.gpus,
                max_concurrency=WAITING_CALLS,
            ).remote()
            self.engines.append(EngineHandle(name=name, actor=actor))
        asked = (self.plan.task.name, self.plan.model(model).model, self.plan.question, self.settings)
        loading = [engine.actor.load.remote(*asked) for engine in self.engines]
        # In small waits: a node may be long in coming, and a signal must be heard meanwhile.
        while len(ray.wait(loading, num_returns=len(loading), timeout=0.5)[0]) < len(loading):
            if self.stop:
                return
        for engine, reply in zip(self.engines, loading, strict=True):
            engine.num_rows = ray.get(reply)

    def expect(self, ledger: Ledger) -> None:
        """Tell the engines how many searches are left for each, which is what idle rows are counted against."""
        if self.model is not None and self.engines:
            share = math.ceil(ledger.num_open_of(self.model) / len(self.engines))
            for engine in self.engines:
                engine.actor.expect.remote(share)

    def least_loaded(self) -> EngineHandle:
        """The engine with the fewest probes in flight."""
        return min(self.engines, key=lambda engine: engine.in_flight)

    def close(self) -> None:
        """End the engines; what they held has no verdict."""
        for engine in self.engines:
            # An engine that died has taken its counters along.
            with contextlib.suppress(RayError):
                done: Any = ray.get(engine.actor.stats.remote(), timeout=ANSWER_SECONDS)
                self.stats += done
            ray.kill(engine.actor)
        self.engines, self.model = [], None
