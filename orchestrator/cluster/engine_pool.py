"""The engines of a run: opened where searches can use them, moved from model to model, replaced when they are lost.

Knows nothing of assignments or verdicts; placement.py decides how many there should be of each model, and
turnover.py which of them leave.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from orchestrator.cluster.cluster_view import cluster_nodes
from orchestrator.cluster.engine_actor import EngineActor, EngineLoad, EngineReport
from orchestrator.cluster.engine_handle import EngineHandle
from orchestrator.cluster.neighbours import Neighbours
from orchestrator.cluster.placement import EngineDemand, EngineNeed, Node, allot, engine_demand
from orchestrator.cluster.sizing import model_needs
from orchestrator.cluster.turnover import HeldEngine, lacking, leaving
from orchestrator.errors import BadInput, SessionFaultError
from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.planning.plan import Plan
from orchestrator.search.ledger import Ledger
from tasks.values import EngineSettings, EngineStats, Finished, Snapshot

ANSWER_SECONDS = 10.0
"""An engine answers between two steps; one that does not is taken to be gone."""
STALL_SECONDS = 600.0
"""An engine that takes no step for so long is ended and replaced."""
PAUSE_SECONDS = 60.0
"""An engine that is asked to pause ends its step first."""
TEND_SECONDS = 1.0
"""How often the pool looks after its engines and the cluster's nodes."""
ENGINE_CALLS = 64
"""Calls that an engine serves at a time: nearly all of them wait for probes to finish, a second at most, each in a
thread of its own. With a thousand, a hundred engines came to more threads than a machine has numbers for."""
LOADING_SECONDS = 60.0
"""An engine that has not loaded within this waits for a place, or for a download: the others do not wait for it."""
MOST_LOSSES = 3
"""Engines lost one after the other, without any verdict in between, before the session ends: then it is not chance."""


@dataclass(slots=True, kw_only=True)
class EnginePool:
    """Engines of all models of a run."""

    plan: Plan
    ledger: Ledger
    settings: EngineSettings
    recorder: Any
    """Name of the recorder actor."""
    look: Callable[[], Sequence[Node]] = cluster_nodes
    """The cluster as it is now."""
    engines: list[EngineHandle] = field(default_factory=list)
    stats: EngineStats = field(default_factory=EngineStats)
    """What the engines that were closed have done."""
    num_restarts: int = 0
    """Engines that were lost."""
    losses: int = 0
    """Those of them since the last verdict."""
    num_wanted: int = 0
    """Engines that the run would have now."""
    _neighbours: Neighbours = field(default_factory=Neighbours)
    _num_begun: dict[str, int] = field(default_factory=dict)
    _longest: dict[str, int] = field(default_factory=dict)
    """Tokens of the longest text that searches of a model may ask for."""
    _numbers: Any = field(default_factory=count)
    _tended_at: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadInput when the cluster cannot hold an engine of each model."""
        self._num_begun = {model: self.ledger.num_open_of(model) for model in self.ledger.models}
        for search in self.plan.searches:
            self._longest[search.model] = max(search.limit, self._longest.get(search.model, 0))
        nodes = self.look()
        self.num_wanted = sum(allot(self._demands(nodes), nodes, most=self._most).values())

    @property
    def ready(self) -> list[EngineHandle]:
        """Engines that have loaded their model and take probes."""
        return [engine for engine in self.engines if engine.is_ready]

    @property
    def _most(self) -> int | None:
        number = self.plan.sweep.engines.count
        return None if number == "auto" else number

    def _demands(self, nodes: Sequence[Node]) -> list[EngineDemand]:
        """What each model with open searches asks for; raises BadInput when a node for it is not to be had."""
        demands = [
            model_needs(
                self.plan.model(model),
                nodes,
                longest=self._longest[model],
                num_open=self.ledger.num_open_of(model),
                num_begun=self._num_begun[model],
            )
            for model in self.ledger.models
            if self.ledger.num_open_of(model)
        ]
        return [engine_demand(self.plan.sweep.engines, each, nodes) for each in demands]

    def wait_ready(self, seconds: float) -> None:
        """Wait a while for an engine that loads, if there is none else."""
        loading = [engine.loading for engine in self.engines if engine.loading is not None]
        if loading and not self.ready:
            ray.wait(loading, timeout=seconds)
            self._check_loading()

    def progress(self) -> list[EngineProgress]:
        """What the engines do, for the live view."""
        return [engine.line for engine in self.engines]

    def tend(self) -> bool:
        """Replace engines that are gone or hang, and have as many of each model as the cluster has room for.

        Returns:
            Whether it was time to.

        Raises:
            TaskError: when a model cannot be loaded.
            SessionFaultError: when engines are lost one after the other.
        """
        if time.monotonic() - self._tended_at < TEND_SECONDS:
            return False
        self._tended_at = time.monotonic()
        self._check_loading()
        for engine in [engine for engine in self.engines if engine.loading is None]:
            self._look_at(engine)
        self._neighbours.look()
        nodes = self.look()
        with contextlib.suppress(BadInput):  # what is left of the cluster may be too small: wait for more
            asked = self._demands(nodes)
            most, share = self._neighbours.most_engines(asked, nodes, held=len(self.engines))
            limits = [limit for limit in (most, self._most) if limit is not None]
            self._have(allot(asked, nodes, most=min(limits, default=None)), {each.model: each.need for each in asked})
            lacking = max(0, share - sum(engine.loading is None for engine in self.engines))
            self.recorder.report_lacking.remote(lacking)
        return True

    def _have(self, wanted: dict[str, int], needs: dict[str, EngineNeed]) -> None:
        """Come nearer to so many engines of each model."""
        self.num_wanted = sum(wanted.values())
        # 1. Those beyond get no more probes, and are closed when they have none left.
        for engine, leaves in zip(self.engines, leaving(self._held(), wanted), strict=True):
            engine.leaves = leaves
        for engine in [engine for engine in self.engines if engine.leaves and not engine.in_flight]:
            self._retire(engine)
        # 2. New ones come where places are.
        for model in lacking(self._held(), wanted):
            self._make(model, needs[model])

    def _held(self) -> list[HeldEngine]:
        return [HeldEngine(model=e.model, in_flight=e.in_flight, leaves=e.leaves) for e in self.engines]

    def _make(self, model: str, need: EngineNeed) -> None:
        name = f"engine {model.rpartition('/')[2]} {next(self._numbers)}"
        remote: Any = ray.remote(EngineActor)
        actor = remote.options(name=name, num_cpus=need.cpus, num_gpus=need.gpus, max_concurrency=ENGINE_CALLS).remote(
            model
        )
        threads = self.settings.cpus or (None if need.gpus else math.ceil(need.cpus))
        load = EngineLoad(
            run=self.plan.sweep.name,
            name=name,
            task=self.plan.task.name,
            model=self.plan.model(model).model,
            question=self.plan.question_of(model),
            settings=replace(self.settings, cpus=threads, gpus=need.gpus or 1.0),
            snapshot_seconds=self.plan.sweep.engines.snapshot_seconds,
        )
        loading = actor.load.remote(load, self.recorder)
        self.engines.append(EngineHandle(name=name, model=model, actor=actor, loading=loading, need=need))

    def _check_loading(self) -> None:
        for engine in [engine for engine in self.engines if engine.loading is not None]:
            if not ray.wait([engine.loading], timeout=0)[0]:
                continue
            try:
                engine.num_slots = ray.get(engine.loading)
                engine.loading = None
            except RayTaskError:  # the model's own error
                raise
            except RayError as error:
                self.lose(engine, _first_line(error))

    def _look_at(self, engine: EngineHandle) -> None:
        """Find out without waiting how an engine does, and whether it still steps."""
        if engine.asked is None:
            engine.asked = engine.actor.report.remote(), time.monotonic()
        reply, asked_at = engine.asked
        if not ray.wait([reply], timeout=0)[0]:
            silent = time.monotonic() - asked_at
        else:
            engine.asked = None
            try:
                report: Any = ray.get(reply)
            except RayError as error:
                self.lose(engine, _first_line(error))
                return
            engine.report_before = engine.report
            engine.report, engine.num_slots, silent = report, report.num_slots, report.silent_seconds
        if silent > STALL_SECONDS:
            self.lose(engine, f"it took no step for {silent:.0f} s, where {STALL_SECONDS:.0f} s are the most")

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
        self.num_restarts += 1
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

    def expect(self) -> None:
        """Report to each engine how many searches are left for it, which is what idle slots are counted against."""
        shares = {model: self.share(model) for model in {engine.model for engine in self.ready}}
        for engine in self.ready:
            if engine.expects != shares[engine.model]:
                engine.expects = shares[engine.model]
                engine.actor.expect.remote(engine.expects)

    def share(self, model: str) -> int:
        """Open searches for each engine of a model; 0 while there is no engine.

        Engines that will soon have loaded count, too: the first one shall not take all there is.
        """
        soon = time.monotonic() - LOADING_SECONDS
        mine = [engine for engine in self.engines if engine.model == model and not engine.leaves]
        engines = sum(engine.loading is None or engine.made_at > soon for engine in mine)
        return math.ceil(self.ledger.num_open_of(model) / engines) if engines else 0

    def pause(self) -> list[tuple[str, list[Finished], list[Snapshot]]]:
        """Stop every engine after its step: its name, what it finished that nobody took, and its probes in flight."""
        asked = [(engine.name, engine.actor.pause.remote()) for engine in self.engines if engine.loading is None]
        held: list[tuple[str, list[Finished], list[Snapshot]]] = []
        for name, reply in asked:
            # An engine that died has taken its probes along: what it saved last is on disk.
            with contextlib.suppress(RayError):
                finished, snapshots = ray.get(reply, timeout=PAUSE_SECONDS)
                held.append((name, finished, snapshots))
        return held

    def close(self) -> None:
        """End the engines; what they held has no verdict."""
        for engine in list(self.engines):
            self._retire(engine)

    def _retire(self, engine: EngineHandle) -> None:
        """End an engine, and keep the count of what it has done."""
        if engine.loading is None:
            # An engine that died has taken its counters along.
            with contextlib.suppress(RayError):
                report: EngineReport = ray.get(engine.actor.report.remote(), timeout=ANSWER_SECONDS)
                self.stats += report.stats
        ray.kill(engine.actor)
        self.engines.remove(engine)


def _first_line(error: RayError) -> str:
    return f"it was lost ({str(error).strip().splitlines()[0]})"
