"""The verbs for what runs elsewhere: submit, status, stop.

Each imports what it needs when it runs.
"""

import os
import shlex
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.exits import AllowFewer, Env, Include, Overrides, Reuse, SpecArgument, bad_input

app = typer.Typer()

JobsAddress = Annotated[str, typer.Option(help="The cluster's dashboard, such as http://127.0.0.1:8265.")]


@app.command(epilog="Example: `capsweep submit mine.yaml --address http://127.0.0.1:8265 --follow`")
def submit(
    spec: SpecArgument,
    overrides: Overrides = None,
    *,
    address: JobsAddress,
    run_dir: Annotated[
        str | None, typer.Option(help="Run directory as the head node sees it; by default STORAGE/NAME-TIME.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print the job's output until it ends.")] = False,
    install: Annotated[
        bool, typer.Option("--install", help="Install the package versions of this machine for the job.")
    ] = False,
    allow_fewer: AllowFewer = False,
    reuse: Reuse = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the job's id alone.")] = False,
    env: Env = None,
    include: Include = None,
) -> None:
    """Run a sweep as a job on a cluster, which continues without this machine; an existing run is resumed."""
    with bad_input():
        from orchestrator.cli.followed import follow_job
        from orchestrator.cluster.environment import carried
        from orchestrator.cluster.jobs.client import Jobs
        from orchestrator.cluster.jobs.submission import check_reused_url
        from orchestrator.errors import typed
        from orchestrator.launch import new_run_url
        from orchestrator.spec.sweep_file import load_sweep

        words = overrides or []
        sweep = load_sweep(spec, words)
        url = run_dir or new_run_url(sweep)
        variables = carried(env or ())
        for source in reuse or ():
            check_reused_url(source)
        jobs = Jobs(address)
        options = _options_of_run(words, reuse or (), allow_fewer=allow_fewer)
        job_id = jobs.submit(sweep, url, options=options, install=install, variables=variables)
        again = ["submit", str(spec), *words, "--address", address, "--run-dir", url]
        again += [word for name in variables for word in ("--env", name)]
        typer.echo(
            job_id
            if quiet
            else f"job {job_id} runs {url}\n"
            f"  watch it:   capsweep status {job_id} --address {address} --follow  or  capsweep status {typed(url)}\n"
            f"  stop it:    capsweep stop {job_id} --address {address}\n"
            f"  resume it:  capsweep {shlex.join(again)}"
        )
        if follow:
            raise typer.Exit(follow_job(job_id, address))


def _options_of_run(words: Sequence[str], reuse: Sequence[str], *, allow_fewer: bool) -> list[str]:
    """The options of `capsweep run` in the job of a sweep that was submitted with these."""
    options = ["--allow-fewer"] if allow_fewer else []
    return [*options, *(f"--reuse={source}" for source in reuse), *(f"--overridden={word}" for word in words)]


@app.command(
    epilog="Examples: `capsweep status runs/quickstart-20260101-120000`, "
    "`capsweep status JOB --address http://127.0.0.1:8265 --follow`"
)
def status(
    run: Annotated[
        str,
        typer.Argument(
            help="Run directory or URL, or a dashboard as http://..; with --address, a job or run.",
            metavar="RUN|JOB|URL",
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, help="Searches to show.")] = 20,
    address: Annotated[str | None, typer.Option(help="Dashboard of the job's cluster, as http://..")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print the job's output until it ends.")] = False,
    include: Include = None,
) -> None:
    """Show a run's results on disk, even while a session runs, or the sweeps that were submitted to a cluster."""
    with bad_input():
        if address is not None:
            from orchestrator.cli.followed import follow_job, show_job

            if follow:
                raise typer.Exit(follow_job(run, address))
            show_job(run, address)
        elif run.startswith(("http://", "https://")) and not follow:
            from orchestrator.cli.followed import show_jobs

            show_jobs(run)
        elif follow:
            from orchestrator.cli.followed import without_address

            raise without_address(run)
        else:
            from orchestrator.cli.status import show_status
            from orchestrator.runs.directory import open_run

            _refuse_job(run)
            show_status(open_run(run), limit=limit)


@app.command(epilog="Example: `capsweep stop runs/mine-20260101-120000`")
def stop(
    run: Annotated[str, typer.Argument(help="Run directory or URL; with --address, a job or run.", metavar="RUN|JOB")],
    address: Annotated[str | None, typer.Option(help="Dashboard of the job's cluster, as http://..")] = None,
) -> None:
    """Stop a run, on whichever machine: probes in flight are saved, and `capsweep resume` continues the run."""
    with bad_input():
        from orchestrator.cli.stopping import stop_job, stop_run

        if address is None:
            _refuse_job(run)
            ended = stop_run(run, on_message=typer.echo)
        else:
            ended = stop_job(run, address, on_message=typer.echo)
    raise typer.Exit(0 if ended else 1)


def _refuse_job(name: str) -> None:
    """Raise BadInput for what may be the id of a job: a bare name that is no folder."""
    if "/" in name or os.path.exists(os.path.expanduser(name)):
        return
    from orchestrator.errors import BadInput

    raise BadInput(
        f"{name}: not a run directory (no sweep.yaml in it). Give the folder that `capsweep run` printed, such as "
        "runs/NAME-DATE-TIME; for a job of a cluster, add --address, such as http://127.0.0.1:8265."
    )
