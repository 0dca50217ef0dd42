"""The engines of a run: opened for a model when it has work, replaced when they are lost, closed when none is left.

Models run one after another, so that each gets the whole cluster. Knows nothing of cohorts or verdicts.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from orchestrator.cluster.engine_actor import EngineActor, EngineLoad
from orchestrator.errors import BadInput, SessionFaultError
from orchestrator.plan import Plan
from orchestrator.search.ledger import Ledger
from orchestrator.stop import Stop
from tasks.contract import EngineSettings, EngineStats, Finished, Snapshot

ANSWER_SECONDS = 10.0
"""An engine answers between two steps; one that does not is taken to be gone."""
PAUSE_SECONDS = 60.0
"""An engine that is told to pause ends its step first."""
TEND_SECONDS = 1.0
"""How often the pool looks after its engines and the cluster's nodes."""
WAITING_CALLS = 1000
"""Calls an actor serves at a time: nearly all of them wait for a cohort."""
MOST_LOSSES = 3
"""Engines lost one after the other, without any verdict in between, before the session ends: then it is not chance."""


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
    loading: Any
    """Reply of its load; None once it has loaded."""
    num_rows: int = 1
    in_flight: int = 0
    """Probes given and not yet heard of."""
    lost: str | None = None
    """Why it is gone; None while it is not known to be."""
    asked: tuple[Any, float] | None = None
    """An unanswered question how long it has been silent, and when that was asked."""


@dataclass(slots=True, kw_only=True)
class EnginePool:
    """Engines of the model that runs now."""

    plan: Plan
    settings: EngineSettings
    recorder: str
    """Name of the recorder actor."""
    choose: Callable[[], EngineResources]
    """What the cluster has room for now; raises BadInput when that is nothing."""
    stop: Stop
    model: str | None = None
    resources: EngineResources = field(init=False)
    engines: list[EngineHandle] = field(default_factory=list)
    stats: EngineStats = field(default_factory=EngineStats)
    """What the engines that were closed have done."""
    losses: int = 0
    """Engines lost since a verdict was heard of last."""
    _numbers: Any = field(default_factory=count)
    _tended_at: float = 0.0

    def __post_init__(self) -> None:
        self.resources = self.choose()

    @property
    def ready(self) -> list[EngineHandle]:
        """Engines that have loaded their model."""
        return [engine for engine in self.engines if engine.loading is None]

    def open(self, model: str) -> None:
        """Make engines for `model` the ones that run; returns when one has loaded it, or the session should end.

        Raises:
            TaskError: when the model cannot be loaded.
        """
        if model == self.model:
            return
        self.close()
        self.model = model
        # In small waits: a node may be long in coming, and a signal must be heard meanwhile.
        while not self.ready and not self.stop:
            self._fill_up()
            ray.wait([engine.loading for engine in self.engines], timeout=0.5)
            self._hear_of_loading()

    def tend(self) -> None:
        """Replace engines that are gone or hang, and make more where nodes have come.

        Raises:
            TaskError: when the model cannot be loaded.
            SessionFaultError: when engines are lost one after the other.
        """
        if self.model is None or time.monotonic() - self._tended_at < TEND_SECONDS:
            return
        self._tended_at = time.monotonic()
        self._hear_of_loading()
        for engine in self.ready:
            self._look_at(engine)
        with contextlib.suppress(BadInput):  # what is left of the cluster may be too small: wait for more
            self.resources = self.choose()
        self._fill_up()

    def _fill_up(self) -> None:
        """Make engines until there are as many as the cluster has room for."""
        assert self.model is not None
        remote: Any = ray.remote(EngineActor)
        while len(self.engines) < self.resources.count:
            name = f"engine {self.model} {next(self._numbers)}"
            actor = remote.options(
                name=name,
                num_cpus=self.resources.cpus,
                num_gpus=self.resources.gpus,
                max_concurrency=WAITING_CALLS,
            ).remote()
            load = EngineLoad(
                name=name,
                task=self.plan.task.name,
                model=self.plan.model(self.model).model,
                question=self.plan.question,
                settings=self.settings,
                recorder=self.recorder,
                snapshot_seconds=self.plan.sweep.engines.snapshot_seconds,
            )
            self.engines.append(EngineHandle(name=name, actor=actor, loading=actor.load.remote(load)))

    def _hear_of_loading(self) -> None:
        for engine in [engine for engine in self.engines if engine.loading is not None]:
            if not ray.wait([engine.loading], timeout=0)[0]:
                continue
            try:
                engine.num_rows = ray.get(engine.loading)
                engine.loading = None
            except RayTaskError:  # what the model said
                raise
            except RayError as error:
                self.lose(engine, _first_line(error))

    def _look_at(self, engine: EngineHandle) -> None:
        """Find out without waiting whether an engine still steps."""
        stall_seconds = self.plan.sweep.engines.stall_seconds
        if engine.asked is None:
            engine.asked = engine.actor.silent_seconds.remote(), time.monotonic()
        reply, asked_at = engine.asked
        silent: float
        if not ray.wait([reply], timeout=0)[0]:
            silent = time.monotonic() - asked_at
        else:
            engine.asked = None
            try:
                silent = float(ray.get(reply))
            except RayError as error:
                self.lose(engine, _first_line(error))
                return
        if silent > stall_seconds:
            self.lose(engine, f"it took no step for {silent:.0f} s (engines.stall_seconds is {stall_seconds:g})")

    def lose(self, engine: EngineHandle, why: str) -> None:
        """Give an engine up; another one takes its place. Once is enough.

        Raises:
            SessionFaultError: when engines are lost one after the other.
        """
        if engine not in self.engines:
            return
        engine.lost = why
        self.engines.remove(engine)
        ray.kill(engine.actor)
        self.losses += 1
        if self.losses >= MOST_LOSSES:
            raise SessionFaultError(f"{self.losses} engines were lost without a verdict in between, the last: {why}")

    def why_lost(self, engine: EngineHandle) -> str | None:
        """Why an engine is gone, asking it if that is not known; None if it works."""
        if engine.lost is None:
            try:
                broke = ray.get(engine.actor.fault.remote(), timeout=ANSWER_SECONDS)
                if broke is not None:
                    self.lose(engine, f"it broke down: {broke}")
            except GetTimeoutError:
                self.lose(engine, f"it did not answer for {ANSWER_SECONDS:.0f} s")
            except RayError as error:
                self.lose(engine, _first_line(error))
        return engine.lost

    def expect(self, ledger: Ledger) -> None:
        """Tell the engines how many searches are left for each, which is what idle rows are counted against."""
        for engine in self.ready:
            engine.actor.expect.remote(self.share(ledger))

    def share(self, ledger: Ledger) -> int:
        """Open searches for each engine; 0 while there is no engine."""
        assert self.model is not None
        return math.ceil(ledger.num_open_of(self.model) / len(self.ready)) if self.ready else 0

    def least_loaded(self) -> EngineHandle | None:
        """The engine with the fewest probes in flight; None if there is none now."""
        return min(self.ready, key=lambda engine: engine.in_flight, default=None)

    def pause(self) -> list[tuple[str, list[Finished], list[Snapshot]]]:
        """Stop every engine after its step: its name, what has finished and was not dealt with, and rows in flight."""
        asked = [(engine.name, engine.actor.pause.remote()) for engine in self.ready]
        held: list[tuple[str, list[Finished], list[Snapshot]]] = []
        for name, reply in asked:
            # An engine that died has taken its rows along: what it saved last is on disk.
            with contextlib.suppress(RayError):
                finished, snapshots = ray.get(reply, timeout=PAUSE_SECONDS)
                held.append((name, finished, snapshots))
        return held

    def close(self) -> None:
        """End the engines; what they held has no verdict."""
        for engine in self.engines:
            if engine.loading is None:
                # An engine that died has taken its counters along.
                with contextlib.suppress(RayError):
                    done: Any = ray.get(engine.actor.stats.remote(), timeout=ANSWER_SECONDS)
                    self.stats += done
            ray.kill(engine.actor)
        self.engines, self.model = [], None


def _first_line(error: RayError) -> str:
    return f"it was lost ({str(error).strip().splitlines()[0]})"
