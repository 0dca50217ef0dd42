"""Workers that measure recipes, as Ray actors: trials side by side, each in an engine with an actor of its own.

Knows nothing of trials or of what a recipe is.
"""

import contextlib
import logging
import math
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError, RayTaskError

from orchestrator.cluster.engine_pool import EngineResources
from orchestrator.cluster.runner import SEARCHES_PER_ENGINE, SMALL_PARAMETERS, choose_resources
from orchestrator.errors import BadInput, SessionFaultError
from orchestrator.plan import Plan
from orchestrator.stop import Stop
from orchestrator.tuning.worker import Job, Reached, Worker
from tasks.contract import EngineSettings

LISTEN_SECONDS = 0.5
"""How often a signal is looked for while workers measure."""


class TuningActor:
    """A worker in a process of its own; ended from outside when the session ends."""

    def __init__(self, plan: Plan, settings: EngineSettings) -> None:
        self._worker = Worker(plan, settings)

    def measure(self, job: Job) -> tuple[Reached, ...]:
        """Raises TaskError when the model cannot be loaded."""
        reached = self._worker.measure(job, Stop())
        assert reached is not None, "nothing stops a worker but its end"
        return reached


class RayWorkers:
    """As many workers as the cluster has room for engines."""

    def __init__(self, plan: Plan, settings: EngineSettings, resources: EngineResources, stop: Stop) -> None:
        self.size = resources.count
        self._stop = stop
        self._asked: dict[Any, int] = {}
        remote: Any = ray.remote(TuningActor)
        held = ray.put(plan)
        self._actors = [
            remote.options(num_cpus=resources.cpus, num_gpus=resources.gpus).remote(held, settings)
            for _ in range(self.size)
        ]

    def submit(self, worker: int, job: Job) -> None:
        """Give the job to an actor."""
        self._asked[self._actors[worker].measure.remote(job)] = worker

    def wait(self) -> tuple[int, tuple[Reached, ...]] | None:
        """The next worker that is done.

        Raises:
            TaskError: when a model cannot be loaded.
            SessionFaultError: when a worker was lost; its trial is tried again by the session that follows.
        """
        while not self._stop:
            done, _ = ray.wait(list(self._asked), timeout=LISTEN_SECONDS)
            if not done:
                continue
            worker = self._asked.pop(done[0])
            try:
                reached: Any = ray.get(done[0])
            except RayTaskError:  # what the task said
                raise
            except RayError as error:
                raise SessionFaultError(f"a worker was lost: {str(error).strip().splitlines()[0]}") from error
            return worker, reached
        return None

    def close(self) -> None:
        """End all actors, whatever they are at."""
        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def ray_workers(
    plan: Plan, settings: EngineSettings, *, address: str | None, stop: Stop, say: Callable[[str], None]
) -> Iterator[RayWorkers]:
    """Join a cluster, or start one on this machine and stop it afterwards, and make workers there.

    Raises:
        BadInput: when the cluster is not there or cannot hold what the sweep asks for.
    """
    with _cluster(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        resources = choose_resources(plan.sweep.engines, nodes, small_searches=_small_searches(plan))
        threads = settings.cpus or (math.ceil(resources.cpus) if not resources.gpus else None)
        say(f"{resources.count} trials side by side, each with {resources.cpus:g} CPUs and {resources.gpus:g} GPUs")
        workers = RayWorkers(plan, replace(settings, cpus=threads), resources, stop)
        try:
            yield workers
        finally:
            workers.close()


def _small_searches(plan: Plan) -> int:
    """Many, if all models are so small that an engine has no use for a second processor; else 0."""
    if plan.sweep.engines.device not in ("cpu", "auto"):
        return 0
    if any(model.facts.num_parameters >= SMALL_PARAMETERS for model in plan.models):
        return 0
    # A trial needs no neighbours to be worth an engine: as many as there are processors.
    return SEARCHES_PER_ENGINE * len(plan.searches)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    was_running = ray.is_initialized()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if not was_running:
        try:
            ray.init(
                address=address or "local",
                namespace=f"tune-{uuid.uuid4().hex[:8]}",
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=None if address else False,
            )
        except ConnectionError as error:
            why = str(error).strip().splitlines()[0]
            raise BadInput(f"--address {address}: no Ray cluster answers there ({why}).") from error
        except AuthenticationError as error:
            raise BadInput(
                f"--address {address}: that cluster wants its token; docs/operations.md says how to give it."
            ) from error
    # Ray puts its own handler in place of ours, which would end the process without a word.
    for number, handler in handlers.items():
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(number, handler)
    try:
        yield
    finally:
        if not was_running:
            ray.shutdown()
