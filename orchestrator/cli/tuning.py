"""The verb `tune`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exits import (
    Address,
    AllowFewer,
    Env,
    Include,
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
    include: Include = None,
) -> None:
    """Find the recipe that proves the most tokens for a given budget; repeat with its --run-dir to resume."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import tuning

        url, code = tuning.tune(
            spec,
            overrides=overrides or (),
            trials=trials,
            run_dir=run_dir,
            report=report,
            budget=budget,
            inline=inline,
            address=address,
            allow_fewer=allow_fewer,
            take_over=take_over,
            env=env or (),
            console=Console(quiet=quiet),
        )
        show_folder(url, quiet=quiet)
    raise typer.Exit(code)
