"""How many trials run at a time, how many probes a new one gets, and when a running one gets more.

Pure: values in, numbers out. Knows nothing of Ray, engines or the ledger.
"""

import math
from dataclasses import dataclass

TRIALS_PER_BATCH = 4
"""`probes_per_trial: auto` is an engine's slots divided by this: large trials starve an engine, small ones need
more processes."""
BATCHES_IN_FLIGHT = 2.5
"""Probes in flight, in units of an engine's slots: the surplus waits, to fill a free slot at once."""
TOPPED_UP = 1.25
"""Probes in flight up to which a trial is topped up, in units of an engine's slots: the surplus fills the slots that
become free between two reports of the trial, a second apart."""
MOST_TRIALS_RUNNING = 16
TRIALS_PER_ENGINE = 2
"""Trials that run at a time: two per engine, up to MOST_TRIALS_RUNNING; with more engines one per engine, which is
topped up. Each has a worker process of about 95 MB, so the driver's node holds 16 of them in 1.5 GB."""
TRIALS_WAITING = 2
"""Trials beyond those that run: Tune gives the process of a trial that ends to one that waits, or else ends it."""
QUIET_REPORTS = 25
"""Reports per second, of all trials together, that nothing has finished: a limit, so that the driver's load does not
grow with the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOccupancy:
    """What decides whether an engine gets more probes."""

    num_slots: int
    """Approximate number of probes that it optimizes at a time."""
    in_flight: int
    """Probes given to it and not yet finished."""
    num_trials: int
    """Trials that it serves."""
    num_ready: int
    """Searches of its model that wait for a probe."""
    share: int
    """Open searches of its model, divided by that model's engines."""


def trials_running(num_engines: int) -> int:
    """Trials that run at a time."""
    return max(1, min(MOST_TRIALS_RUNNING, TRIALS_PER_ENGINE * num_engines), num_engines)


def most_trials(num_engines: int) -> int:
    """Most trials at a time, including those that only keep a process alive."""
    return trials_running(num_engines) + TRIALS_WAITING


def trials_per_engine(*, num_engines: int, num_wanted: int) -> int:
    """Most trials that one engine serves.

    Args:
        num_engines: Engines that exist or are wanted, whichever is more.
        num_wanted: Engines that the run wants now; fewer than exist while some are leaving.
    """
    return max(1, most_trials(num_engines) // max(1, num_wanted))


def quiet_seconds(num_running: int) -> float:
    """How long a trial waits before it reports that nothing has finished, if so many trials run."""
    return max(1.0, num_running / QUIET_REPORTS)


def new_trial_size(load: EngineOccupancy, *, per_engine: int, probes_per_trial: int | None) -> int:
    """Probes of a new trial for an engine; 0 if it should get none now.

    Args:
        load: Occupancy of the engine.
        per_engine: Most trials that it serves.
        probes_per_trial: What the sweep asks for; None: depends on the engine.
    """
    if load.num_trials >= per_engine or not load.num_ready:
        return 0
    size = probes_per_trial or _auto_size(load, per_engine)
    if load.in_flight and load.in_flight + size > BATCHES_IN_FLIGHT * load.num_slots:
        return 0
    if load.num_ready < size and load.in_flight > load.num_slots:
        # The engine has enough to do: wait until enough searches are ready for a whole trial.
        return 0
    return size


def _auto_size(load: EngineOccupancy, per_engine: int) -> int:
    """A part of the slots; more if all trials together need it to fill the slots; at most the engine's share."""
    part = load.num_slots / TRIALS_PER_BATCH
    filling = BATCHES_IN_FLIGHT * load.num_slots / per_engine
    return max(1, math.ceil(min(max(part, filling), load.share)))


def top_up_size(load: EngineOccupancy, *, per_engine: int, probes_per_trial: int | None) -> int:
    """Probes that a running trial gets beside those it has; 0 if a further trial will bring them.

    With about as many open searches as slots, the slots of finished probes would otherwise stay empty until the
    slowest probe of the trial has finished (64 searches on two engines: 64 % of the slots busy).
    """
    if probes_per_trial is not None or load.num_trials < per_engine:
        return 0
    return max(0, min(math.ceil(TOPPED_UP * load.num_slots), load.share) - load.in_flight)
