"""The verb `tune`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exits import (
    Address,
    AllowFewer,
    Env,
    Inline,
    Overrides,
    Quiet,
    SpecArgument,
    TakeOver,
    bad_input,
    expanded,
    show_folder,
)

app = typer.Typer()


@app.command(epilog="Example: `capsweep tune sweeps/quickstart.yaml --trials 25 --inline`")
def tune(
    spec: SpecArgument,
    overrides: Overrides = None,
    *,
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
    quiet: Quiet = False,
    env: Env = None,
) -> None:
    """Find the recipe that proves the most tokens for a given budget; repeat with its --run-dir to resume."""
    with bad_input():
        from rich.console import Console

        from orchestrator.spec.sweep_file import load_sweep
        from orchestrator.tuning.tune import TuneRequest, new_tune_folder
        from orchestrator.tuning.tune import tune as tune_sweep

        sweep = load_sweep(spec, overrides or ())
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
        console = Console(quiet=quiet)
        code = tune_sweep(request, url, inline=inline, address=address, take_over=take_over, console=console)
        show_folder(url, quiet=quiet)
    raise typer.Exit(code)
