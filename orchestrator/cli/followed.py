"""What `capsweep status` shows of sweeps that were submitted to a cluster, and how it follows one."""

import typer

from orchestrator.cluster.jobs.client import Job, Jobs
from orchestrator.errors import BadInput, literal
from tasks.wording import counted

INTERRUPTED = 130


def show_jobs(address: str) -> None:
    """Print every sweep that was submitted to the cluster with this dashboard, latest first, and how far each is."""
    jobs = Jobs(address)
    found = jobs.all()
    for job in found:
        _show(job, jobs)
    typer.echo(f"{counted(len(found), 'sweep was', 'sweeps were')} submitted to {address}")


def show_job(name: str, address: str) -> None:
    """Print the job with this id, or the latest job of this run; raises BadInput when there is none."""
    jobs = Jobs(address)
    _show(jobs.find(name), jobs)


def _show(job: Job, jobs: Jobs) -> None:
    typer.echo(literal(f"{job.job_id}  {job.status.lower()}  {job.run_dir}"))
    progress = [] if job.is_over else jobs.progress(job.job_id)
    for line in (*progress, *job.last_words):
        typer.echo(literal(f"    {line}"))


def follow_job(name: str, address: str) -> int:
    """Print what a job has printed and prints until it ends; returns its exit code, or 130 after Ctrl-C.

    Raises:
        BadInput: when no cluster answers at `address`, or it has no such job.
        ConnectionError: when it no longer answers.
    """
    jobs = Jobs(address)
    job_id = jobs.find(name).job_id
    try:
        return jobs.follow(job_id, lambda output: typer.echo(output, nl=False))
    except KeyboardInterrupt:
        typer.echo(
            f"\njob {job_id} continues; `capsweep status {job_id} --address {address} --follow` comes back to it, "
            f"`capsweep stop {job_id} --address {address}` ends it."
        )
        return INTERRUPTED


def without_address(name: str) -> BadInput:
    """The error for a job without a cluster."""
    return BadInput(
        f"{name}: --follow follows a job of a cluster; wanted --address with it, such as http://127.0.0.1:8265. "
        "`capsweep status URL` lists the jobs."
    )
