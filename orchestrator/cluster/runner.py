"""Run a session on Ray: start or join a cluster, tune, and leave nothing running.

Knows how Ray is told to do things; what is done is the searcher's affair.
"""

import contextlib
import logging
import math
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.cohort_trial import CohortTrial
from orchestrator.cluster.engine_pool import WAITING_CALLS, EnginePool, EngineResources
from orchestrator.cluster.recorder_actor import RecorderActor
from orchestrator.cluster.searcher import RECORDER_NAME, LedgerSearcher, cohorts_running
from orchestrator.errors import BadInput
from orchestrator.plan import Plan
from orchestrator.search.bracket import Verdict
from orchestrator.session import Session
from orchestrator.stop import Stop
from orchestrator.sweep import EnginesEntry
from tasks.contract import EngineSettings, EngineStats

SMALL_PARAMETERS = 10_000_000
"""Models below this gain next to nothing from a second thread (24 texts on stories260K: 51 s of steps with one, 47 with
two), so on CPUs each core gets an engine of its own (twice as much in the same time)."""
SEARCHES_PER_ENGINE = 16
"""Searches for which such an engine is made, at least: with fewer rows most of a step is not computing."""
SPARE_CPUS = 0.5
"""What trials get beside engines that take all other processors. A trial only waits, but its share of this bounds how
many run, so that others wait for a process to become free instead of starting one."""
SMALLEST_SHARE = 0.05
"""CPUs an engine reserves at least; with less the machine is crowded beyond use."""
MOST_TRIALS = 10_000
TRIALS_PER_SEARCH = 1000
"""More than a search can need, so that only the searcher ends the run."""


def run_on_ray(
    session: Session,
    engines: EnginesEntry,
    settings: EngineSettings,
    *,
    address: str | None,
    stop: Stop,
    heard: Callable[[Sequence[Verdict]], None],
    say: Callable[[str], None],
) -> EngineStats:
    """Run until no search is open or `stop` says so.

    Args:
        session: The run.
        engines: What the sweep says of their number and resources.
        settings: How each computes.
        address: A cluster to join; None starts one on this machine and stops it afterwards.
        stop: Asked whenever Tune looks for work.
        heard: Told of verdicts once their rows are on disk.
        say: Told where the cluster can be watched.

    Returns:
        What the engines have done.

    Raises:
        BadInput: when the cluster is not there or cannot hold what the sweep asks for.
        TaskError: when an engine cannot load its model.
        OSError: when rows could not be written.
        SessionFaultError: when an engine broke down.
    """
    with _cluster(session, address, say):
        small_searches = _small_searches(session.plan)

        def choose() -> EngineResources:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            return choose_resources(engines, nodes, small_searches=small_searches)

        resources = choose()
        threads = settings.cpus or (math.ceil(resources.cpus) if not resources.gpus else None)
        pool = EnginePool(
            plan=session.plan,
            settings=replace(settings, cpus=threads),
            recorder=RECORDER_NAME,
            choose=choose,
            stop=stop,
        )
        recorder: Any = (
            ray.remote(RecorderActor)
            .options(
                name=RECORDER_NAME,
                num_cpus=0,
                max_concurrency=WAITING_CALLS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
            )
            .remote(session.files.url, session.context)
        )
        cohort_size = None if engines.cohort_size == "auto" else engines.cohort_size
        searcher = LedgerSearcher(
            session,
            pool,
            recorder,
            cohort_size=cohort_size,
            stop=stop,
            heard=heard,
        )
        # Tune's own state is a by-product that nobody reads: it goes to a folder that is removed.
        scratch = tempfile.mkdtemp(prefix="capsweep-tune-")
        try:
            tune.Tuner(
                tune.with_resources(CohortTrial, {"cpu": SPARE_CPUS / cohorts_running(resources.count)}),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=TRIALS_PER_SEARCH * session.ledger.num_searches,
                    reuse_actors=True,
                    # How many there are is the searcher's affair; nodes that come later bring more.
                    max_concurrent_trials=MOST_TRIALS,
                ),
                run_config=tune.RunConfig(
                    name=session.session_id,
                    storage_path=scratch,
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                    stop=_StopWhenAsked(stop),
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            _put_away(pool, recorder, unfinished=session.ledger.num_open > 0)
            ray.kill(recorder)
        if searcher.fault is not None:
            raise searcher.fault
        return pool.stats


def _put_away(pool: EnginePool, recorder: Any, *, unfinished: bool) -> None:
    """Save what the engines hold, as far as that can be done, and end them."""
    if unfinished:
        for name, finished, snapshots in pool.pause():
            # What could not be written is why the session ends, or runs again.
            with contextlib.suppress(Exception):
                ray.get(recorder.record.remote(finished))
                ray.get(recorder.save_snapshots.remote(name, snapshots))
    pool.close()


def _small_searches(plan: Plan) -> int:
    """Most searches of one model, if all models are small and run on processors; else 0."""
    device = plan.sweep.engines.device
    on_processors = device == "cpu" or (device == "auto" and sys.platform != "darwin")
    if not on_processors or any(model.facts.num_parameters >= SMALL_PARAMETERS for model in plan.models):
        return 0
    return max(Counter(search.model for search in plan.searches).values())


def choose_resources(
    engines: EnginesEntry, nodes: Sequence[Mapping[str, float]], *, small_searches: int = 0
) -> EngineResources:
    """One engine a GPU where there are GPUs; else one with nearly all processors of a node, or one a processor.

    Args:
        engines: What the sweep says; `auto` leaves it to this function.
        nodes: Resources of each node of the cluster, as Ray counts them.
        small_searches: Searches of a model so small that an engine has no use for more than one processor; 0 if it has.

    Raises:
        BadInput: when the cluster cannot hold what the sweep asks for.
    """
    gpus_of = [node.get("GPU", 0.0) for node in nodes]
    has_gpus = engines.device != "cpu" and any(gpus_of)
    gpus = engines.gpus if engines.gpus != "auto" else float(has_gpus)
    # An engine lives on one node: what several have does not add up for it.
    cpus_of = [node.get("CPU", 0.0) for node, here in zip(nodes, gpus_of, strict=True) if here >= gpus]
    cpus = 1.0 if engines.cpus == "auto" else float(engines.cpus)
    places = sum(int(here // gpus) for here in gpus_of) if gpus else sum(int(here // cpus) for here in cpus_of)
    # On processors as many as find room, and have searches enough.
    auto_count = places if gpus else min(places, small_searches // SEARCHES_PER_ENGINE)
    count = max(1, auto_count) if engines.count == "auto" else engines.count
    if gpus and count > places:
        raise BadInput(
            f"engines: {count} engines of {gpus:g} GPUs were asked for, the cluster has {sum(gpus_of):g}. "
            "Ask for fewer, or leave engines.gpus and engines.count at auto."
        )
    share = _largest_share(count, [here - SPARE_CPUS for here in cpus_of])
    if share < SMALLEST_SHARE:
        raise BadInput(
            f"engines.count: {count} engines do not fit beside each other on {len(nodes)} nodes of at most "
            f"{max(cpus_of):g} CPUs. Ask for fewer."
        )
    wanted = share if engines.cpus == "auto" and not gpus else cpus
    return EngineResources(count=count, cpus=min(wanted, share), gpus=gpus)


def _largest_share(count: int, room: Sequence[float]) -> float:
    """Most processors that each of `count` engines can have where each node has so many for them."""
    shares = sorted((here / engines for here in room if here > 0 for engines in range(1, count + 1)), reverse=True)
    # A little tolerance: thirds of a node must fit three times.
    return next((share for share in shares if sum(int(here / share + 1e-9) for here in room) >= count), 0.0)


class _StopWhenAsked(tune.Stopper):
    """Ends all trials once the session should end; never a single one."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._stop)

    def __deepcopy__(self, memo: dict[int, object]) -> "_StopWhenAsked":
        # Tune copies its configuration; a copy would never hear of a signal.
        return self


@contextmanager
def _cluster(session: Session, address: str | None, say: Callable[[str], None]) -> Iterator[None]:
    """Join a cluster or start one on this machine; stop it only if it was started here."""
    # It prints a traceback for each trial that the machine fails; the searcher hears of them, and says what is of use.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    was_running = ray.is_initialized()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if not was_running:
        try:
            said = _start_ray(session, address).dashboard_url
        except ConnectionError as error:
            why = str(error).strip().splitlines()[0]
            raise BadInput(f"--address {address}: no Ray cluster answers there ({why}).") from error
        except AuthenticationError as error:
            raise BadInput(
                f"--address {address}: that cluster wants its token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
                "RAY_AUTH_TOKEN_PATH) here as they are there; docs/operations.md says how."
            ) from error
        if said:
            say(f"dashboard: http://{said} (it asks for what `ray get-auth-token` prints)")
    # Ray puts its own handler in place of ours, which would end the process without a word.
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        if not was_running:
            ray.shutdown()


def _start_ray(session: Session, address: str | None) -> Any:
    return ray.init(
        # `local`: a cluster of our own, also where another one happens to run.
        address=address or "local",
        namespace=session.session_id,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        **({} if address else {"include_dashboard": True, "dashboard_host": "127.0.0.1"}),
    )
