"""Run a session on Ray: start or join a cluster, tune, and leave nothing running.

Knows how to make Ray do things; what is done is the searcher's affair.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.connection import cluster
from orchestrator.cluster.engine_pool import EnginePool
from orchestrator.cluster.neighbours import RECORDER_NAME
from orchestrator.cluster.probe_trial import ProbeTrial, name_of
from orchestrator.cluster.recorder_actor import RecorderActor
from orchestrator.cluster.searcher import LedgerSearcher
from orchestrator.execution.progress import EngineLine
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session
from orchestrator.search.bracket import Verdict
from orchestrator.spec.sweep import EnginesEntry
from tasks.values import EngineSettings, EngineStats

RECORDER_CALLS = 256
"""Calls that the recorder serves at a time: those of all trials, each of which waits for its rows to be on disk."""
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
    on_verdicts: Callable[[Sequence[Verdict]], None],
    on_engines: Callable[[Sequence[EngineLine]], None],
    on_message: Callable[[str], None],
) -> EngineStats:
    """Run until no search is open or `stop` is set.

    Args:
        session: The run.
        engines: What the sweep asks for: their number and resources.
        settings: How each computes.
        address: A cluster to join; None starts one on this machine and stops it afterwards.
        stop: Asked whenever Tune looks for work.
        on_verdicts: Called with verdicts once their rows are on disk.
        on_engines: Called about once a second with what the engines do.
        on_message: Called with where the cluster can be watched.

    Returns:
        What the engines have done.

    Raises:
        BadInput: when the cluster is not there or cannot hold what the sweep asks for.
        TaskError: when an engine cannot load its model.
        OSError: when rows could not be written.
        SessionFaultError: when an engine broke down.
    """
    with cluster(session.session_id, address, on_message), _recorder_of(session) as recorder:
        pool = EnginePool(plan=session.plan, ledger=session.ledger, settings=settings, recorder=recorder)
        probes_per_trial = None if engines.probes_per_trial == "auto" else engines.probes_per_trial
        searcher = LedgerSearcher(
            session,
            pool,
            recorder,
            probes_per_trial=probes_per_trial,
            stop=stop,
            on_verdicts=on_verdicts,
            on_engines=on_engines,
        )
        # Tune's own state is a by-product that nobody reads: it goes to a folder that is removed.
        scratch = tempfile.mkdtemp(prefix="capsweep-tune-")
        try:
            tune.Tuner(
                ProbeTrial,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=TRIALS_PER_SEARCH * session.ledger.num_searches,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: name_of(trial.config),
                    trial_dirname_creator=lambda trial: trial.trial_id,
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
        if searcher.fault is not None:
            raise searcher.fault
        return pool.stats


@contextmanager
def _recorder_of(session: Session) -> Iterator[Any]:
    """The recorder of a session, on this node, for as long as it is needed."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(RecorderActor)
    recorder = remote.options(
        name=RECORDER_NAME, num_cpus=0, max_concurrency=RECORDER_CALLS, scheduling_strategy=here
    ).remote(session.files.url, session.context)
    try:
        yield recorder
    finally:
        ray.kill(recorder)


def _put_away(pool: EnginePool, recorder: Any, *, unfinished: bool) -> None:
    """Save what the engines hold, as far as that can be done, and end them."""
    if unfinished:
        for name, finished, snapshots in pool.pause():
            # What could not be written is why the session ends, or runs again.
            with contextlib.suppress(Exception):
                ray.get(recorder.record.remote(finished))
                ray.get(recorder.save_snapshots.remote(name, snapshots))
    pool.close()


class _StopWhenAsked(tune.Stopper):
    """Ends all trials once the session should end; never a single one."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._stop)

    def __deepcopy__(self, memo: dict[int, object]) -> "_StopWhenAsked":
        # Tune copies its configuration; a copy would never notice a signal.
        return self
