"""Workers that measure recipes, as Ray actors: trials run side by side, each on the engine of its own actor.

Knows nothing of trials or of what a recipe is.
"""

import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from orchestrator.cluster.cluster_view import cluster_nodes
from orchestrator.cluster.connection import cluster
from orchestrator.cluster.known_plugins import know
from orchestrator.cluster.placement import EngineNeed, allot, engine_demand
from orchestrator.cluster.sizing import model_needs
from orchestrator.errors import SessionFaultError
from orchestrator.execution.recipe_worker import MeasurementRequest, SearchResult, Worker
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from tasks.plugins import IncludedFile, included_files
from tasks.values import EngineSettings
from tasks.wording import counted

LISTEN_SECONDS = 0.5
"""How often `stop` is checked while workers measure."""
MANY_SEARCHES = 1_000_000
"""More than any cluster has places for: a single trial fills an engine, so there are as many engines as places."""


class TuningActor:
    """A worker in a process of its own, which is killed when the session ends."""

    def __init__(
        self, held: Sequence[Any], settings: EngineSettings, *, task: str, included: Sequence[IncludedFile]
    ) -> None:
        """Nothing is read yet: an error here would reach the driver as a dead actor.

        Args:
            held: A reference to the plan; in a list, so that Ray leaves it to be read once its classes are known.
            settings: Settings of the engine.
            task: Name of the plan's task.
            included: Files of --include, in which the classes of the plan may be.
        """
        self._held = held
        self._settings = settings
        self._task = task
        self._included = included

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables of this process, before a model is loaded."""
        os.environ.update(variables)

    def measure(self, request: MeasurementRequest) -> tuple[SearchResult, ...]:
        """The results of the request.

        Raises:
            TaskError: when the model cannot be loaded, or the task is not known here.
        """
        reached = self._worker.measure(request, Stop())
        assert reached is not None, "nothing sets this Stop"
        return reached

    @cached_property
    def _worker(self) -> Worker:
        know(self._included, task=self._task)
        return Worker(ray.get(self._held[0]), self._settings)


class RayWorkers:
    """As many workers as the cluster has room for engines."""

    def __init__(
        self,
        plan: Plan,
        settings: EngineSettings,
        count: int,
        need: EngineNeed,
        *,
        stop: Stop,
        variables: Mapping[str, str],
    ) -> None:
        self.size = count
        self._stop = stop
        self._asked: dict[Any, int] = {}
        remote: Any = ray.remote(TuningActor)
        held = ray.put(plan)
        self._actors = [
            remote.options(num_cpus=need.cpus, num_gpus=need.gpus).remote(
                [held], settings, task=plan.task.name, included=included_files()
            )
            for _ in range(self.size)
        ]
        if variables:  # by a call of its own: Ray keeps how an actor is made
            for actor in self._actors:
                actor.set_variables.remote(variables)

    def submit(self, worker: int, request: MeasurementRequest) -> None:
        """Give the request to an actor."""
        self._asked[self._actors[worker].measure.remote(request)] = worker

    def wait(self) -> tuple[int, tuple[SearchResult, ...]] | None:
        """The next worker that has finished, and its results; None once the session should end.

        Raises:
            TaskError: when a model cannot be loaded.
            SessionFaultError: when a worker is lost; the next session tries its trial again.
        """
        while not self._stop:
            done, _ = ray.wait(list(self._asked), timeout=LISTEN_SECONDS)
            if not done:
                continue
            worker = self._asked.pop(done[0])
            try:
                reached: Any = ray.get(done[0])
            except RayTaskError:  # raised by the worker itself
                raise
            except RayError as error:
                raise SessionFaultError(f"a worker was lost: {str(error).strip().splitlines()[0]}") from error
            return worker, reached
        return None

    def close(self) -> None:
        """End all actors, even those that are measuring."""
        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def ray_workers(
    plan: Plan,
    settings: EngineSettings,
    *,
    address: str | None,
    variables: Mapping[str, str],
    stop: Stop,
    on_message: Callable[[str], None],
) -> Iterator[RayWorkers]:
    """Join a cluster, or start one on this machine and stop it afterwards, and make workers there.

    `variables` are set in the environment of each worker.

    Raises:
        BadInput: when no cluster answers or it cannot hold what the sweep asks for.
    """
    with cluster(f"tune-{uuid.uuid4().hex[:8]}", address, on_message):
        count, need = _places(plan)
        threads = settings.cpus or (None if need.gpus else math.ceil(need.cpus))
        on_message(f"{counted(count, 'trial')} side by side, each with {need.cpus:g} CPUs and {need.gpus:g} GPUs")
        settings = replace(settings, cpus=threads, gpus=need.gpus or 1.0)
        workers = RayWorkers(plan, settings, count, need, stop=stop, variables=variables)
        try:
            yield workers
        finally:
            workers.close()


def _places(plan: Plan) -> tuple[int, EngineNeed]:
    """How many workers the present nodes have room for, and what each takes: enough for any model of the plan."""
    nodes = [node for node in cluster_nodes() if node.present]
    longest = max(search.limit for search in plan.searches)
    demands = [
        model_needs(model, nodes, longest=longest, num_open=MANY_SEARCHES, num_begun=MANY_SEARCHES)
        for model in plan.models
    ]
    engines = plan.sweep.engines
    asked = max(
        (engine_demand(engines, each, nodes) for each in demands), key=lambda each: (each.need.gpus, each.need.cpus)
    )
    most = None if engines.count == "auto" else engines.count
    return allot([asked], nodes, most=most)[asked.model], asked.need
