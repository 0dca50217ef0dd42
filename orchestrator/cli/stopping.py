"""Ends a session that runs elsewhere: through the run directory, or through the cluster it was submitted to."""

import time
from collections.abc import Callable

from orchestrator.errors import typed
from orchestrator.redact import refuse_credentials
from orchestrator.runs.directory import check_is_run
from orchestrator.store.files import open_files
from orchestrator.store.lock import ask_to_stop, read_holder

WAIT_SECONDS = 180.0
"""A session reads the request within seconds, then finishes its optimizer step and saves the probes in flight."""
POLL_SECONDS = 0.5
"""Time between two looks at the lock: short beside the seconds that a session takes to end."""


def stop_run(url: str, *, on_message: Callable[[str], None]) -> bool:
    """Ask the session that writes to a run to end, and wait for it; returns whether it has ended.

    Raises:
        BadInput: when there is no run at `url`.
    """
    refuse_credentials(url)
    files = open_files(url)
    check_is_run(files)  # its sweep may need a plug-in that is not here, or be damaged
    holder = ask_to_stop(files)
    if holder is None:
        on_message(f"{url}: no session writes there")
        return True
    on_message(f"{url}: asked process {holder.pid} on {holder.host} to end; it saves the probes in flight")
    if _wait(lambda: (now := read_holder(files)) is None or now.session_id != holder.session_id):
        on_message(f"{url}: ended. `capsweep resume {typed(url)}` continues it.")
        return True
    on_message(
        f"{url}: process {holder.pid} on {holder.host} has not ended within {WAIT_SECONDS:.0f} s; it may be gone."
    )
    return False


def stop_job(name: str, address: str, *, on_message: Callable[[str], None]) -> bool:
    """Ask the job with this id or run to end, and wait for it; returns whether it has ended.

    Raises:
        BadInput: when no cluster answers at `address`, or it has no such job.
    """
    from orchestrator.cluster.jobs.client import Jobs

    jobs = Jobs(address)
    job = jobs.find(name)
    if job.is_over:
        on_message(f"{job.job_id}: already {job.status.lower()}")
        return True
    jobs.stop(job)
    on_message(f"{job.job_id}: asked to end; it saves the probes in flight")
    if _wait(lambda: jobs.find(job.job_id).is_over):
        on_message(f"{job.job_id}: ended. Submit the sweep with --run-dir {job.run_dir} to resume it.")
        return True
    on_message(f"{job.job_id}: has not ended within {WAIT_SECONDS:.0f} s")
    return False


def _wait(ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (over := ended()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return over
