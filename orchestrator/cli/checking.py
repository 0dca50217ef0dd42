"""What tells the cost before anything runs: the verb `check`, and `--dry-run` of the verbs that run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exits import AllowFewer, Include, Overrides, bad_input, expanded
from orchestrator.errors import BadInput, literal

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.api.running import Checked
    from orchestrator.planning.plan import Plan
    from orchestrator.runs.extension import Extension

app = typer.Typer()


@app.command(epilog="Examples: `capsweep check sweeps/quickstart.yaml`, `capsweep check cluster.yaml`")
def check(
    spec: Annotated[
        Path, typer.Argument(help="Sweep file, or cluster file for `ray up` (YAML).", metavar="FILE", callback=expanded)
    ],
    overrides: Overrides = None,
    allow_fewer: AllowFewer = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="What another device really does, in 10^12 operations/s: an H100 in bfloat16 about 90 with 135 "
            "million parameters and 275 with a billion. By default this device is timed.",
        ),
    ] = None,
    include: Include = None,
) -> None:
    """Report every problem of a file. If there is none, show a sweep's rough cost or a cluster's node types."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import running
        from orchestrator.cluster.cluster_file import is_cluster_file, refuse_other_tools, show_cluster_file
        from orchestrator.spec.yaml_file import read_mapping

        console = Console()
        document, _ = read_mapping(spec)
        refuse_other_tools(spec, document)
        if is_cluster_file(document):
            if overrides:
                raise BadInput(f"{overrides[0]}: {spec} is a cluster file. Only fields of sweep files can be set here.")
            show_cluster_file(spec, console)
            return
        checked = running.check(
            spec, overrides=overrides or (), allow_fewer=allow_fewer, timed=not tflops, console=console
        )
        device = f"one device at {tflops:g} Tflop/s, kept busy" if tflops else "this machine (--tflops for another)"
        _show_cost(checked, console, device=device, tflops=tflops)


def show_dry_run(
    plan: "Plan", url: str, console: "Console", *, extension: "Extension | None" = None, reuse: Sequence[str] = ()
) -> None:
    """Show what a session of the plan in the run at `url` would do; arguments as those of `launch`.

    Raises:
        BadInput: when that session would be refused.
    """
    from orchestrator.api import running
    from orchestrator.runs.preview import preview
    from tasks.wording import counted

    found = preview(plan, url, extension=extension, reuse=reuse)
    console.print(
        f"{plan.sweep.name}: {counted(len(plan.searches), 'search')} in {url}: {found.done} done there, "
        f"{found.taken} to take over from other runs, {len(found.left)} to run",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    models = {search.model for search in found.left}
    left = replace(
        plan,
        models=tuple(model for model in plan.models if model.name in models),
        searches=found.left,
        notes=(*plan.notes, *found.notes),
    )
    _show_cost(running.with_cost(left, timed=True, console=console), console, device="this machine")
    console.print("dry run: nothing was written, and nothing was run.")


def _show_cost(checked: "Checked", console: "Console", *, device: str, tflops: float | None = None) -> None:
    """Print the notes of a plan, and what its searches cost on a device of so many Tflop/s or, without, on this one."""
    from orchestrator.report.terminal import estimates_table

    if checked.estimates:
        console.print(estimates_table(checked.estimates, tflops=tflops))
    for note in checked.notes:
        console.print(f"note: {literal(note)}", markup=False, highlight=False)
    if checked.estimates:
        tokens = ", ".join(f"{row.expected_tokens:,.0f}" for row in checked.estimates)
        console.print(
            f"Rough: it assumes {tokens} tokens a search. Times are for {device}, and may be half or twice that.",
            highlight=False,
        )
