"""Run a session on Ray: start or join a cluster, run Tune, and leave nothing running.

Sets Ray up; the searcher decides what runs.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.connection import cluster
from orchestrator.cluster.engine_pool import EnginePool
from orchestrator.cluster.neighbours import RECORDER_NAME
from orchestrator.cluster.probe_trial import ProbeTrial, name_of
from orchestrator.cluster.recorder_actor import RecorderActor
from orchestrator.cluster.searcher import LedgerSearcher
from orchestrator.execution.executor import SnapshotFaults, Watcher
from orchestrator.execution.stop import Stop
from orchestrator.runs.session import Session
from tasks.values import EngineStats

RECORDER_CALLS = 256
"""Calls that the recorder serves at a time, for all trials together: each waits until its rows are on disk."""
MOST_TRIALS = 10_000
"""More than ever run at a time, so that only the searcher limits them."""
TRIALS_PER_SEARCH = 1000
"""More than a search can need, so that only the searcher ends the run."""


class RayExecutor:
    """Runs a session on Ray."""

    def __init__(self, address: str | None, environment: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet.

        Args:
            address: A cluster to join; None starts one on this machine and stops it afterwards.
            environment: Variables of the engines, on every machine.
        """
        self._address = address
        self._environment = environment or {}

    def run(self, session: Session, *, stop: Stop, watcher: Watcher) -> EngineStats:
        """See `Executor`; `stop` is checked whenever Tune asks for work. BadInput also when no cluster answers."""
        with cluster(session.session_id, self._address, watcher.show_message), _recorder_of(session) as recorder:
            settings, per_trial = session.plan.sweep.engine_settings(), session.plan.sweep.engines.probes_per_trial
            faults = SnapshotFaults(watcher)
            pool = EnginePool(
                plan=session.plan,
                ledger=session.ledger,
                settings=settings,
                recorder=recorder,
                environment=self._environment,
            )
            searcher = LedgerSearcher(
                session,
                pool,
                recorder,
                probes_per_trial=None if per_trial == "auto" else per_trial,
                stop=stop,
                on_verdicts=watcher.show_verdicts,
                on_engines=watcher.show_engines,
                on_snapshot_faults=faults.show,
            )
            save = True
            try:
                _tune(searcher, session, stop)
            except KeyboardInterrupt:  # what is in flight is to be dropped
                save = False
                raise
            finally:
                _put_away(pool, recorder, unfinished=save and session.ledger.num_open > 0)
                with contextlib.suppress(RayError):
                    faults.conclude(ray.get(recorder.snapshot_faults.remote()))
            if searcher.fault is not None:
                raise searcher.fault
            return pool.stats


def _tune(searcher: LedgerSearcher, session: Session, stop: Stop) -> None:
    """Run trials until the searcher has nothing more to ask, or `stop` is true."""
    # Nobody reads Tune's own state: it goes to a temporary folder.
    with tempfile.TemporaryDirectory(prefix="capsweep-tune-", ignore_cleanup_errors=True) as scratch:
        tune.Tuner(
            ProbeTrial,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=TRIALS_PER_SEARCH * session.ledger.num_searches,
                reuse_actors=True,
                trial_name_creator=lambda trial: name_of(trial.config),
                trial_dirname_creator=lambda trial: trial.trial_id,
                # The searcher limits the trials; the limit grows with nodes that join later.
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


@contextmanager
def _recorder_of(session: Session) -> Iterator[Any]:
    """The recorder of a session, on this node; it is killed on exit."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(RecorderActor)
    recorder = remote.options(
        name=RECORDER_NAME, num_cpus=0, max_concurrency=RECORDER_CALLS, scheduling_strategy=here
    ).remote(session.files.url, session.shared)
    try:
        yield recorder
    finally:
        ray.kill(recorder)


def _put_away(pool: EnginePool, recorder: Any, *, unfinished: bool) -> None:
    """Save the probes that the engines hold, as far as possible, and end the engines."""
    if unfinished:
        for name, finished, snapshots in pool.pause():
            # A failure here is why the session ends, or only makes these probes run again.
            with contextlib.suppress(Exception):
                ray.get(recorder.record.remote(finished))
                ray.get(recorder.save_snapshots.remote(name, snapshots))
    pool.close()


class _StopWhenAsked(tune.Stopper):
    """Ends all trials once the session should end; never ends a single trial."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._stop)

    def __deepcopy__(self, memo: dict[int, object]) -> "_StopWhenAsked":
        # Tune copies its configuration, and a copy of `Stop` would not notice a signal.
        return self
