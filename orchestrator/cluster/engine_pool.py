"""The engines of a run: opened where searches can use them, moved between models, replaced when they are lost.

Knows nothing of assignments or verdicts; placement.py decides how many there should be of each model, and
turnover.py decides which of them leave.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
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
from tasks.plugins import included_files
from tasks.values import EngineSettings, EngineStats, Finished, Snapshot

ANSWER_SECONDS = 10.0
"""An engine answers between two steps; one that does not within this is taken to be gone."""
STALL_SECONDS = 600.0
"""An engine that takes no step for this long is ended and replaced."""
PAUSE_SECONDS = 60.0
"""Longest wait for an engine to pause: it finishes its step first."""
TEND_SECONDS = 1.0
"""How often the pool checks its engines and the cluster's nodes."""
ENGINE_CALLS = 64
"""Calls that an engine serves at a time. Nearly all of them wait up to a second for probes to finish, each in a thread
of its own: with a thousand calls, a hundred engines exceeded the number of threads that a machine allows."""
LOADING_SECONDS = 60.0
"""An engine that takes longer to load waits for a place or a download; the other engines share its searches."""
MOST_LOSSES = 3
"""Engines lost in a row, without a verdict in between, that end the session: so many are not chance."""


@dataclass(slots=True, kw_only=True)
class EnginePool:
    """The engines of all models of a run."""

    plan: Plan
    ledger: Ledger
    settings: EngineSettings
    recorder: Any
    """The recorder actor."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the engines' processes."""
    look: Callable[[], Sequence[Node]] = cluster_nodes
    """Returns the nodes that the cluster has now and may get."""
    engines: list[EngineHandle] = field(default_factory=list)
    stats: EngineStats = field(default_factory=EngineStats)
    """What the closed engines have done, in total."""
    num_restarts: int = 0
    """Engines lost so far."""
    losses: int = 0
    """Engines lost since the last verdict."""
    num_wanted: int = 0
    """Engines that the run wants now."""
    _neighbours: Neighbours = field(default_factory=Neighbours)
    _num_begun: dict[str, int] = field(default_factory=dict)
    _longest: dict[str, int] = field(default_factory=dict)
    """Model -> longest length that its searches may ask for, in tokens."""
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
        """What each model with open searches asks for; raises BadInput when no node can hold one of its engines."""
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
        """Wait up to `seconds` for an engine to load, if none is ready."""
        loading = [engine.loading for engine in self.engines if engine.loading is not None]
        if loading and not self.ready:
            ray.wait(loading, timeout=seconds)
            self._check_loading()

    def progress(self) -> list[EngineProgress]:
        """The progress of all engines, for the live view."""
        return [engine.line for engine in self.engines]

    def tend(self) -> bool:
        """Replace engines that are gone or hang, and adapt their number to the searches and the cluster.

        Returns:
            Whether this was due; it is done once per TEND_SECONDS.

        Raises:
            TaskError: when a model cannot be loaded.
            SessionFaultError: when MOST_LOSSES engines are lost in a row.
        """
        if time.monotonic() - self._tended_at < TEND_SECONDS:
            return False
        self._tended_at = time.monotonic()
        self._check_loading()
        for engine in [engine for engine in self.engines if engine.loading is None]:
            self._look_at(engine)
        self._neighbours.look()
        nodes = self.look()
        with contextlib.suppress(BadInput):  # the rest of the cluster may be too small: wait for nodes
            asked = self._demands(nodes)
            most, share = self._neighbours.most_engines(asked, nodes, held=len(self.engines))
            limits = [limit for limit in (most, self._most) if limit is not None]
            self._have(allot(asked, nodes, most=min(limits, default=None)), {each.model: each.need for each in asked})
            lacking = max(0, share - sum(engine.loading is None for engine in self.engines))
            self.recorder.report_lacking.remote(lacking)
        return True

    def _have(self, wanted: dict[str, int], needs: dict[str, EngineNeed]) -> None:
        """Close and open engines to approach the wanted number of each model."""
        self.num_wanted = sum(wanted.values())
        # 1. Surplus engines get no more probes, and are closed when they have none left.
        for engine, leaves in zip(self.engines, leaving(self._held(), wanted), strict=True):
            engine.leaves = leaves
        for engine in [engine for engine in self.engines if engine.leaves and not engine.in_flight]:
            self._retire(engine)
        # 2. New engines are made where there are places.
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
            fingerprint=self.plan.model(model).facts.fingerprint,
            question=self.plan.question_of(model),
            settings=replace(self.settings, cpus=threads, gpus=need.gpus or 1.0),
            snapshot_seconds=self.plan.sweep.engines.snapshot_seconds,
            environment=self.environment,
            included=included_files(),
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
            except RayTaskError:  # raised by the engine, such as for a model that cannot be loaded
                raise
            except RayError as error:
                self.lose(engine, _first_line(error))

    def _look_at(self, engine: EngineHandle) -> None:
        """Read the report of an engine without waiting, and give the engine up if it has stopped stepping."""
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
            self.lose(engine, f"it took no step for {silent:.0f} s; the limit is {STALL_SECONDS:.0f} s")

    def lose(self, engine: EngineHandle, why: str) -> None:
        """Give an engine up, so that another one takes its place; does nothing if it was given up before.

        Raises:
            SessionFaultError: when MOST_LOSSES engines are lost in a row.
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
        """Why an engine is gone; asks the engine if that is not known. None if it works."""
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
        """Tell each engine how many searches are left for it; its idle slots are counted against that number."""
        shares = {model: self.share(model) for model in {engine.model for engine in self.ready}}
        for engine in self.ready:
            if engine.expects != shares[engine.model]:
                engine.expects = shares[engine.model]
                engine.actor.expect.remote(engine.expects)

    def share(self, model: str) -> int:
        """Open searches per engine of a model; 0 while there is no engine.

        Engines that began to load recently count, too, so that the first engine does not take all searches.
        """
        soon = time.monotonic() - LOADING_SECONDS
        mine = [engine for engine in self.engines if engine.model == model and not engine.leaves]
        engines = sum(engine.loading is None or engine.made_at > soon for engine in mine)
        return math.ceil(self.ledger.num_open_of(model) / engines) if engines else 0

    def pause(self) -> list[tuple[str, list[Finished], list[Snapshot]]]:
        """Stop every engine after its step; returns its name, what it finished that nobody took, and its snapshots."""
        asked = [(engine.name, engine.actor.pause.remote()) for engine in self.engines if engine.loading is None]
        held: list[tuple[str, list[Finished], list[Snapshot]]] = []
        for name, reply in asked:
            # The probes of a dead engine are lost; their last snapshots are on disk.
            with contextlib.suppress(RayError):
                finished, snapshots = ray.get(reply, timeout=PAUSE_SECONDS)
                held.append((name, finished, snapshots))
        return held

    def close(self) -> None:
        """End all engines; the probes they held get no verdict."""
        for engine in list(self.engines):
            self._retire(engine)

    def _retire(self, engine: EngineHandle) -> None:
        """End an engine, and add what it has done to `stats`."""
        if engine.loading is None:
            # The counters of a dead engine are lost.
            with contextlib.suppress(RayError):
                report: EngineReport = ray.get(engine.actor.report.remote(), timeout=ANSWER_SECONDS)
                self.stats += report.stats
        ray.kill(engine.actor)
        self.engines.remove(engine)


def _first_line(error: RayError) -> str:
    return f"it was lost ({str(error).strip().splitlines()[0]})"
