"""The command `capsweep`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

import sys
import traceback
from typing import Annotated

import typer

from orchestrator.cli import checking, jobs, reading, sharing, tuning, watching
from orchestrator.cli.exits import (
    Address,
    AllowFewer,
    DryRun,
    Env,
    Include,
    Inline,
    Overrides,
    Quiet,
    Reuse,
    RunArgument,
    SpecArgument,
    TakeOver,
    Verbose,
    bad_input,
    show_folder,
)
from orchestrator.cli.streams import show_what_can_be_shown

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of variables, including secrets
    rich_markup_mode="markdown",
    help="How many tokens of text fit into a few trainable input vectors of a frozen language model?",
    epilog="Exit codes: 0 done, 1 some searches failed, 2 bad input, 3 budget spent, 130 interrupted (nothing lost).",
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"capsweep {version('capsweep')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of the command itself."""


@app.command(epilog="Example: `capsweep run sweeps/quickstart.yaml num_vectors=[1,2] --inline`")
def run(
    spec: SpecArgument,
    overrides: Overrides = None,
    run_dir: Annotated[str | None, typer.Option(help="Run directory; by default STORAGE/NAME-TIME.")] = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
    reuse: Reuse = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    env: Env = None,
    overridden: Annotated[
        list[str] | None, typer.Option(hidden=True, help="Overrides that the file has in it, as a submitted one.")
    ] = None,
    include: Include = None,
) -> None:
    """Run a sweep, or resume it in a directory that holds the same sweep."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import running
        from orchestrator.launch import check_place

        console = Console(quiet=quiet)
        if dry_run:
            check_place(address, inline=inline)
            plan, url = running.planned(spec, overrides or (), run_dir=run_dir, allow_fewer=allow_fewer)
            checking.show_dry_run(plan, url, console, reuse=reuse or ())
            return
        ended = running.run(
            spec,
            overrides=overrides or (),
            overridden=overridden or (),
            run_dir=run_dir,
            inline=inline,
            address=address,
            allow_fewer=allow_fewer,
            take_over=take_over,
            reuse=reuse or (),
            env=env or (),
            console=console,
            verbose=verbose,
        )
        show_folder(ended.url, quiet=quiet)
    raise typer.Exit(ended.exit_code or 0)


@app.command(epilog="Example: `capsweep resume runs/quickstart-20260101-120000`")
def resume(
    run: RunArgument,
    inline: Inline = False,
    address: Address = None,
    take_over: TakeOver = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry what the machine failed.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    env: Env = None,
    include: Include = None,
) -> None:
    """Resume a run: rows on disk are kept, and probes that were in flight run again."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import running

        ended = running.resume(
            run,
            inline=inline,
            address=address,
            take_over=take_over,
            retry_failed=retry_failed,
            env=env or (),
            console=Console(quiet=quiet),
            verbose=verbose,
        )
        show_folder(run, quiet=quiet)
    raise typer.Exit(ended.exit_code or 0)


@app.command(epilog="Example: `capsweep extend runs/quickstart-20260101-120000 more.yaml`")
def extend(
    run: RunArgument,
    spec: SpecArgument,
    overrides: Overrides = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
    reuse: Reuse = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    env: Env = None,
    include: Include = None,
) -> None:
    """Add a sweep file's models, texts, k and seeds to a run, and resume it: finished searches stay finished."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import running
        from orchestrator.launch import check_place

        console = Console(quiet=quiet)
        if dry_run:
            from orchestrator.runs.extension import plan_extension

            check_place(address, inline=inline)
            plan, extension = plan_extension(run, spec, overrides=overrides or (), allow_fewer=allow_fewer)
            checking.show_dry_run(plan, run, console, extension=extension, reuse=reuse or ())
            return
        ended = running.extend(
            run,
            spec,
            overrides=overrides or (),
            inline=inline,
            address=address,
            allow_fewer=allow_fewer,
            take_over=take_over,
            reuse=reuse or (),
            env=env or (),
            console=console,
            verbose=verbose,
        )
        show_folder(run, quiet=quiet)
    raise typer.Exit(ended.exit_code or 0)


@app.command(epilog="Example: `capsweep runs s3://bucket/runs`")
def runs(
    root: Annotated[str, typer.Argument(help="Folder or fsspec URL that contains runs.", metavar="ROOT")] = "runs/",
    limit: Annotated[int, typer.Option(min=1, help="Runs to show, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print all runs, one line of JSON each.")] = False,
) -> None:
    """List the runs in a folder: what they measure, their progress, and who writes to them."""
    with bad_input():
        from rich.console import Console

        from orchestrator.report.runs_table import print_listing
        from orchestrator.runs.listing import list_runs

        listing = list_runs(root)
        if as_json:
            for listed in listing.runs:
                typer.echo(listed.as_json())
        else:
            print_listing(Console(), listing, root, limit=limit)


app.add_typer(checking.app)
app.add_typer(tuning.app)
app.add_typer(jobs.app)
app.add_typer(reading.app)
app.add_typer(watching.app)
app.add_typer(sharing.app)


def main() -> None:
    """The entry point of the command."""
    show_what_can_be_shown()
    try:
        app()
    except Exception:
        from orchestrator.redact import redact

        sys.exit(redact(traceback.format_exc()))
