"""Sweeps as jobs on a cluster, through Ray's Jobs API: submit, follow, list, stop.

The API belongs to the cluster's dashboard, so no Ray has to run on this machine.
"""

import asyncio
import json
import logging
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator.cluster.connection import wants_token
from orchestrator.cluster.jobs.submission import (
    VARIABLES_OPTION,
    check_run_url,
    include_options,
    job_name_of,
    stage,
    versions_of_job,
)
from orchestrator.cluster.private import keep_token_private
from orchestrator.errors import BadInput
from orchestrator.report.live import is_progress
from orchestrator.spec.sweep import Sweep

RUN_DIR, SWEEP = "capsweep_run_dir", "capsweep_sweep"
"""Keys of a job's metadata; they mark the jobs of capsweep."""
POLL_SECONDS = 1.0
"""Time between two questions for the job's state, each of which is a request to the dashboard."""
NOT_READY = "No available agent"
"""How Ray refuses a job while no node's agent has reported yet; the job is not begun then."""
READY_SECONDS = 60.0
"""Longest wait for that: agents report within seconds of their node's start."""
LAST_LINES = 3
"""Lines of a failed job's output that `capsweep status` shows."""
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray whose messages about packages and sockets are of no use here."""
EXIT_LOST = 1
"""Exit code for a job that ended without one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A sweep on a cluster."""

    job_id: str
    sweep: str
    run_dir: str
    status: str
    """Ray's name of it: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    message: str
    """What Ray reports about the status."""
    started: float | None
    """Unix time in seconds; None before it started."""
    exit_code: int | None
    """Exit code of `capsweep run`; None while it runs, or if its machine was lost."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return JobStatus(self.status).is_terminal()

    @property
    def last_words(self) -> list[str]:
        """The last lines that a failed job printed; empty if it did not fail."""
        lines = [line for line in self.message.splitlines() if line.strip()]
        return lines[-LAST_LINES:] if self.status == JobStatus.FAILED else []


@contextmanager
def _answers(address: str) -> Iterator[None]:
    """Turn errors of the Jobs API into BadInput with an explanation."""
    try:
        yield
    except ConnectionError as error:
        raise BadInput(
            f"--address {address}: no Jobs API answers there. Wanted the address of the cluster's dashboard, such as "
            "http://127.0.0.1:8265; `ray dashboard cluster.yaml` forwards it to this machine."
        ) from error
    except AuthenticationError as error:
        raise wants_token(address) from error
    except RuntimeError as error:
        raise BadInput(f"--address {address}: {str(error).strip().splitlines()[0]}") from error


def _once_ready(submit: Callable[[], str]) -> str:
    """Submit a job. The dashboard of a cluster that has just started answers before it can take one."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return submit()
        except RuntimeError as error:
            if NOT_READY not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """Raises BadInput when no Jobs API answers at `address`, or others may have read the token."""
        self.address = address
        keep_token_private(make=False)
        with _answers(address):
            self._client = JobSubmissionClient(address)
        for talkative in TALKATIVE:
            logging.getLogger(talkative).setLevel(logging.WARNING)

    def submit(
        self, sweep: Sweep, run_dir: str, *, options: list[str], install: bool, variables: Mapping[str, str]
    ) -> str:
        """Submit a sweep with its files and this code; returns the job's id.

        Args:
            sweep: The sweep, as loaded here.
            run_dir: Folder or URL of the run, as the cluster's head sees it.
            options: Further options of `capsweep run`.
            install: Whether to install the package versions of this machine for the job.
            variables: Environment variables of the driver and its engines. They go to the RAM of the head, from where
                the driver takes them: Ray would write those of a `runtime_env` to its logs, and show them.

        Raises:
            BadInput: when it cannot be submitted, or its run would not outlive the job.
        """
        check_run_url(run_dir)
        # Named for the run and the second: of two submissions at the same time, Ray refuses one.
        job_id = f"{job_name_of(run_dir)}-{time.strftime('%Y%m%d-%H%M%S')}"
        if same := [job for job in self.all() if job.run_dir == run_dir and not job.is_over]:
            running = same[0].job_id
            raise BadInput(f"{run_dir}: job {running} already runs it; `capsweep stop {running}` ends it.")
        with tempfile.TemporaryDirectory(prefix="capsweep-job-") as folder, _answers(self.address):
            stage(sweep, Path(folder))
            environment: dict[str, Any] = {"working_dir": folder}
            if install:
                environment["pip"] = [f"{name}=={number}" for name, number in versions_of_job(sweep).items()]
            words = [run_dir, *options, *include_options()]
            if variables:
                words = [*words, *(word for name in variables for word in ("--env", name))]
                words = [VARIABLES_OPTION, self._leave(variables), *words]
            return _once_ready(
                lambda: self._client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "orchestrator.cluster.jobs.driver", *words]),
                    submission_id=job_id,
                    runtime_env=environment,
                    metadata={RUN_DIR: run_dir, SWEEP: sweep.name},
                )
            )

    def _leave(self, variables: Mapping[str, str]) -> str:
        """Put variables where the driver finds them, in the key-value store in the head's RAM; returns the key."""
        name = f"capsweep-{uuid.uuid4().hex}.zip"  # Ray's name for what is uploaded there: a package
        data = json.dumps(dict(variables)).encode()
        reply = self._client._do_request("PUT", f"/api/packages/gcs/{name}", data=data)
        if not reply.ok:
            raise RuntimeError(f"the head does not take the variables (it answers {reply.status_code})")
        return f"gcs://{name}"

    def all(self) -> list[Job]:
        """Every sweep that was submitted to the cluster, latest first."""
        with _answers(self.address):
            found = [_job(details) for details in self._client.list_jobs() if RUN_DIR in (details.metadata or {})]
        return sorted(found, key=lambda job: job.started or 0.0, reverse=True)

    def find(self, name: str) -> Job:
        """The job with this id, or the latest job of the run with this name or URL.

        Raises:
            BadInput: when there is none.
        """
        jobs = self.all()
        found = [job for job in jobs if name in (job.job_id, job.run_dir, Path(job.run_dir).name)]
        if not found:
            known = ", ".join(job.job_id for job in jobs[:5]) or "none"
            raise BadInput(f"{name}: no sweep by that name was submitted to {self.address}. Jobs there: {known}.")
        return found[0]

    def follow(self, job_id: str, on_message: Callable[[str], None]) -> int:
        """Pass on the output of a job until it ends; returns the exit code of its `capsweep run`.

        Raises:
            ConnectionError: when the cluster no longer answers.
        """
        try:
            asyncio.run(self._tail(job_id, on_message))
            while not (job := self.find(job_id)).is_over:
                time.sleep(POLL_SECONDS)
        except (OSError, RuntimeError, ClientError) as error:
            why = str(error).strip() or type(error).__name__
            raise ConnectionError(
                f"{self.address}: the connection is lost ({why}). Job {job_id} does not need it; "
                f"`capsweep status {job_id} --address {self.address} --follow` comes back to it."
            ) from error
        if job.exit_code is None:
            on_message(f"{job_id}: {job.status.lower()}. {job.message}\n")
        return EXIT_LOST if job.exit_code is None else job.exit_code

    def progress(self, job_id: str) -> list[str]:
        """The last line in which a job's output says how far it is; none before the first."""
        with _answers(self.address):
            lines = self._client.get_job_logs(job_id).splitlines()
        return [line for line in lines if is_progress(line)][-1:]

    async def _tail(self, job_id: str, on_message: Callable[[str], None]) -> None:
        async for part in self._client.tail_job_logs(job_id):
            on_message(part)

    def stop(self, job: Job) -> None:
        """Ask a job to end, which saves the probes in flight. Returns at once."""
        with _answers(self.address):
            self._client.stop_job(job.job_id)


def _job(details: Any) -> Job:
    return Job(
        job_id=details.submission_id,
        sweep=details.metadata[SWEEP],
        run_dir=details.metadata[RUN_DIR],
        status=JobStatus(details.status).value,
        message=details.message or "",
        started=None if details.start_time is None else details.start_time / 1000,
        exit_code=details.driver_exit_code,
    )
