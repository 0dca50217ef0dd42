"""The command `capsweep`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import jobs, reading
from orchestrator.cli.exits import AllowFewer, Env, RunArgument, SpecArgument, bad_input, expanded
from orchestrator.cli.streams import show_what_can_be_shown
from orchestrator.errors import literal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show the values of variables, including secrets
    rich_markup_mode="markdown",
    help="How many tokens of text fit into a few trainable input vectors of a frozen language model?",
    epilog="Exit codes: 0 done, 1 some searches failed, 2 bad input, 3 budget spent, 130 interrupted (nothing lost).",
)

Inline = Annotated[bool, typer.Option("--inline", help="Run in this process, without Ray.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; by default one is started here.")]
TakeOver = Annotated[bool, typer.Option("--take-over", help="Take over a run whose session is gone.")]


@app.command(epilog="Examples: `capsweep check sweeps/quickstart.yaml`, `capsweep check cluster.yaml`")
def check(
    spec: Annotated[
        Path, typer.Argument(help="Sweep file, or cluster file for `ray up` (YAML).", metavar="FILE", callback=expanded)
    ],
    allow_fewer: AllowFewer = False,
    tflops: Annotated[
        float | None,
        typer.Option(min=0.001, help="Speed of another device in 10^12 operations/s; by default this one is timed."),
    ] = None,
) -> None:
    """Report every problem of a file. If there is none, show a sweep's rough cost or a cluster's node types."""
    with bad_input():
        from rich.console import Console

        from orchestrator.cluster.cluster_file import is_cluster_file, show_cluster_file
        from orchestrator.planning.estimate import estimate
        from orchestrator.planning.planner import make_plan
        from orchestrator.planning.pricing import prices_here
        from orchestrator.report.terminal import estimates_table
        from orchestrator.spec.sweep_file import load_sweep
        from orchestrator.spec.yaml_file import read_mapping
        from orchestrator.tracking.mirror import refuse_missing

        console = Console()
        if is_cluster_file(read_mapping(spec)[0]):
            show_cluster_file(spec, console)
            return
        sweep = load_sweep(spec)
        refuse_missing(sweep.tracking, spec)
        plan = make_plan(sweep, allow_fewer=allow_fewer, measure=False)
        prices = {} if tflops else prices_here(plan, console)
        estimates = estimate(plan, prices)
        console.print(estimates_table(estimates, tflops=tflops))
        for note in plan.notes:
            console.print(f"note: {literal(note)}", markup=False, highlight=False)
        tokens = ", ".join(f"{row.expected_tokens:,.0f}" for row in estimates)
        device = f"one device at {tflops:g} Tflop/s, kept busy" if tflops else "this machine (--tflops for another)"
        console.print(
            f"Rough: it assumes {tokens} tokens a search. Times are for {device}, and may be half or twice that.",
            highlight=False,
        )


@app.command(epilog="Example: `capsweep run sweeps/quickstart.yaml --inline`")
def run(
    spec: SpecArgument,
    run_dir: Annotated[str | None, typer.Option(help="Run directory; by default STORAGE/NAME-TIME.")] = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
    reuse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN|FOLDER",
            help="Take over the finished searches that this sweep asks for, too, from a run or all runs in a folder; "
            "repeatable.",
        ),
    ] = None,
    env: Env = None,
) -> None:
    """Run a sweep, or resume it in a directory that holds the same sweep."""
    with bad_input():
        from rich.console import Console

        from orchestrator.launch import launch, new_run_url
        from orchestrator.planning.planner import make_plan
        from orchestrator.runs.directory import drawn_texts, held_sweep, samples_of
        from orchestrator.spec.sweep_file import load_sweep

        sweep = load_sweep(spec)
        url = run_dir or new_run_url(sweep)
        held, samples = held_sweep(url), samples_of(url)
        plan = make_plan(sweep, allow_fewer=allow_fewer, drawn=drawn_texts(url), held=held, samples=samples)
        code = launch(
            plan,
            url,
            inline=inline,
            address=address,
            take_over=take_over,
            reuse=reuse or (),
            environment=env or (),
            console=Console(),
        )
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep resume runs/quickstart-20260101-120000`")
def resume(
    run: RunArgument,
    inline: Inline = False,
    address: Address = None,
    take_over: TakeOver = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry what the machine failed.")] = False,
    env: Env = None,
) -> None:
    """Resume a run: rows on disk are kept, and probes that were in flight run again."""
    with bad_input():
        from rich.console import Console

        from orchestrator.execution.faults import RESUME, can_go_on
        from orchestrator.launch import launch
        from orchestrator.planning.planner import make_plan
        from orchestrator.runs.directory import drawn_texts, open_run, samples_of

        sweep = open_run(run).sweep
        with can_go_on(RESUME):
            # The number of samples was settled when the run began: having fewer than asked for is not an error now.
            plan = make_plan(sweep, allow_fewer=True, drawn=drawn_texts(run), samples=samples_of(run))
            code = launch(
                plan,
                run,
                inline=inline,
                address=address,
                take_over=take_over,
                retry_failed=retry_failed,
                environment=env or (),
                console=Console(),
            )
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep extend runs/quickstart-20260101-120000 more.yaml`")
def extend(
    run: RunArgument,
    spec: SpecArgument,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
    env: Env = None,
) -> None:
    """Add a sweep file's models, texts, k and seeds to a run, and resume it: finished searches stay finished."""
    with bad_input():
        from rich.console import Console

        from orchestrator.launch import launch
        from orchestrator.runs.extension import plan_extension

        plan, extension = plan_extension(run, spec, allow_fewer=allow_fewer)
        code = launch(
            plan,
            run,
            inline=inline,
            address=address,
            take_over=take_over,
            extension=extension,
            environment=env or (),
            console=Console(),
        )
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep tune sweeps/quickstart.yaml --trials 25 --inline`")
def tune(
    spec: SpecArgument,
    trials: Annotated[int, typer.Option(min=1, help="Recipes to try in total, including the sweep's own.")],
    run_dir: Annotated[str | None, typer.Option(help="Folder; by default STORAGE/NAME-tune-TIME.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Sweep file with the texts to report on; by default SPEC's are split.", callback=expanded),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Trained tokens per length search; by default what SPEC's recipe spends.")
    ] = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
    env: Env = None,
) -> None:
    """Find the recipe that proves the most tokens for a given budget; repeat with its --run-dir to resume."""
    with bad_input():
        from rich.console import Console

        from orchestrator.spec.sweep_file import load_sweep
        from orchestrator.tuning.tune import TuneRequest, new_tune_folder
        from orchestrator.tuning.tune import tune as tune_sweep

        sweep = load_sweep(spec)
        others = None if report is None else load_sweep(report)
        request = TuneRequest(
            sweep=sweep,
            report=others,
            trials=trials,
            budget=budget,
            allow_fewer=allow_fewer,
            environment=tuple(env or ()),
        )
        url = run_dir or new_tune_folder(sweep)
        code = tune_sweep(request, url, inline=inline, address=address, take_over=take_over, console=Console())
    raise typer.Exit(code)


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


app.add_typer(jobs.app)
app.add_typer(reading.app)


def main() -> None:
    """The entry point of the command."""
    show_what_can_be_shown()
    try:
        app()
    except Exception:
        from orchestrator.redact import redact

        sys.exit(redact(traceback.format_exc()))
