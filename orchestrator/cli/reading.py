"""The verbs that read a run: report, verify, decode, measure, compare, export.

Each imports what it needs when it runs.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.api.run import Device as DeviceName
from orchestrator.cli.exits import Include, ReadRunArgument, RunArgument, bad_input, expanded
from orchestrator.errors import BadInput, literal
from orchestrator.report.papers import PUBLISHED_SETS, Paper
from tasks.wording import counted

if TYPE_CHECKING:
    from orchestrator.report.figures.canvas import ReportTables

app = typer.Typer()

Device = Annotated[DeviceName, typer.Option(help="Where the models compute.")]


@app.command(epilog="Example: `capsweep report runs/cramming-20260101-120000 runs/one-step-20260101-130000`")
def report(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or their fsspec URLs.", metavar="RUN [RUN ..]")],
    to: Annotated[
        Path, typer.Option(help="File for a page of several runs, or of one that is only read.", callback=expanded)
    ] = Path("report.html"),
    tables: Annotated[
        Path | None, typer.Option(help="Also write the tables as CSV, Markdown and LaTeX here.", callback=expanded)
    ] = None,
    images: Annotated[
        Literal["png", "svg", "pdf"] | None,
        typer.Option(help="Also write the figures, in this format (needs the extra `images`)."),
    ] = None,
    width: Annotated[str, typer.Option(help="Width of an image: 3.3in, 8.4cm, 84mm or 240pt.")] = "3.3in",
    at_steps: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Print the capacity at N optimizer steps, and write no page; may be repeated."
        ),
    ] = None,
    include: Include = None,
) -> None:
    """Rewrite a run's page, report/index.html, from its tables; for several runs, write one page of all."""
    with bad_input():
        from orchestrator.report.figures.printed import inches_of
        from orchestrator.report.images import write_images
        from orchestrator.report.writing import all_tables, write_page, write_report, write_tables
        from orchestrator.runs.directory import open_run, why_not_written

        inches = inches_of(width)
        opened = [open_run(run) for run in runs]
        # The page of a run that is only read is written here.
        is_own_page = len(opened) == 1 and why_not_written(opened[0].files.url) is None
        if is_own_page and not at_steps:
            typer.echo(write_report(opened[0]))
        read = all_tables(opened) if not is_own_page or tables or images or at_steps else None
        if read is not None and at_steps:
            _print_frontier(read, sorted(set(at_steps)))
        elif read is not None and not is_own_page:
            write_page(opened, read, to)
            typer.echo(to)
        if read is not None and tables:
            typer.echo(f"{counted(len(write_tables(read, tables)), 'table')} in {tables}")
        if read is not None and images:
            folder = tables or to.parent / "figures"
            typer.echo(f"{counted(len(write_images(read, folder, images, inches)), 'figure')} in {folder}")
        for note in dict.fromkeys(note for run in opened for note in run.notes):
            typer.echo(f"note: {literal(note)}", err=True)


@app.command(epilog="Example: `capsweep fit runs/pythia-160m-20260101-120000 runs/pythia-410m-20260101-130000`")
def fit(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or their fsspec URLs.", metavar="RUN [RUN ..]")],
    include: Include = None,
) -> None:
    """Fit capacity as a power law of k, of the size of models and of their pre-training, as far as the runs vary in it.

    The page of the runs (`capsweep report`) draws the laws with their points.
    """
    with bad_input():
        from rich.console import Console

        from orchestrator.api import reading
        from orchestrator.report.terminal import laws_table

        series = reading.fit(runs)
        Console().print(laws_table(series))


def _print_frontier(tables: "ReportTables", steps: list[int]) -> None:
    from rich.console import Console

    from orchestrator.report.frontier import frontier
    from orchestrator.report.terminal import frontier_table

    lines = frontier(tables.probes, tables.searches, "steps", steps)
    if not lines:
        raise BadInput(
            "--at-steps: no search has a curve yet. Wanted finished probes in a task that records one (cramming, "
            "one_step), written by capsweep with schema 2 or later."
        )
    Console().print(frontier_table(lines, "optimizer steps"))


@app.command(epilog="Examples: `capsweep verify runs/quickstart-20260101-120000`, `.. --as dtype=bfloat16,batch=8`")
def verify(
    run: ReadRunArgument,
    device: Device = "auto",
    under: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="SETTING",
            help="Instead: count those that decode otherwise, such as dtype=bfloat16,attention=eager,device=cpu,"
            "batch=8,cache=off; repeatable.",
        ),
    ] = None,
    include: Include = None,
) -> None:
    """Decode every stored memory again, one text at a time; exit 1 if any does not reproduce its text.

    With `--as`, decode them under other settings, write what comes back to portability.parquet and the page, and exit
    with 0 whatever comes back.
    """
    if under:
        _verify_under(run, under, device)
        return
    with bad_input():
        from orchestrator.analysis.memories import Verified
        from orchestrator.api import reading
        from orchestrator.runs.directory import open_run

        def show(found: Verified) -> None:
            if not found.is_exact:
                typer.echo(
                    f"{literal(found.source)} (probe {found.probe_id}): {found.proof.exact_prefix} of "
                    f"{counted(found.claimed, 'token')}; smallest margin when it was certified {found.row_margin:.2g}"
                )

        verified = reading.verify(run, device=device, on_verified=show)
        total, wrong = len(verified), sum(not found.is_exact for found in verified)
        typer.echo(f"{counted(total, 'memory')} decoded, {total - wrong} exact, {wrong} not")
        if not total:
            typer.echo(_why_none(set(open_run(run).probes(["outcome"])["outcome"].to_pylist())))
    raise typer.Exit(1 if wrong else 0)


def _why_none(outcomes: set[str]) -> str:
    """Why a run whose probes have these outcomes has no memory to decode."""
    if outcomes <= {"failed"}:
        return "no probe of this run has a verdict yet"
    # Happens where the criterion accepts memories that do not reproduce the first token.
    return "by the column exact_prefix, no memory of this run reproduces even the first token by itself"


def _verify_under(run: str, under: list[str], device: DeviceName) -> None:
    with bad_input():
        from orchestrator.api import reading
        from orchestrator.api.run import Run

        opened = Run(run)
        for found in reading.verify_under(opened, under, device=device):
            typer.echo(found.in_words())
        typer.echo(opened.page)


@app.command(epilog="Example: `capsweep decode runs/quickstart-20260101-120000 3f2a`")
def decode(
    run: ReadRunArgument,
    search_id: Annotated[str, typer.Argument(help="Search id, or the beginning of one.")],
    device: Device = "auto",
    include: Include = None,
) -> None:
    """Print the text that the stored memory of a search decodes to."""
    with bad_input():
        from orchestrator.api import reading

        text = reading.decode(run, search_id, device=device)
        typer.echo(literal(text) if sys.stdout.isatty() else text)


@app.command(epilog="Example: `capsweep measure runs/quickstart-20260101-120000 --noise`")
def measure(
    run: RunArgument,
    device: Device = "auto",
    noise: Annotated[
        bool, typer.Option("--noise", help="Also turn memories in random directions until their text is lost.")
    ] = False,
    include: Include = None,
) -> None:
    """Compute the measures that need the models, and rewrite the page.

    These are the bits ledger, memories in fewer bits, the way between two of them, and with --noise how far each can be
    turned.
    """
    with bad_input():
        from orchestrator.api import reading
        from orchestrator.api.run import Run
        from orchestrator.store.schema import BITS_FILE

        opened = Run(run)
        measured = reading.measure(opened, device=device, noise=noise)
        typer.echo(", ".join(f"{counted(table.num_rows, 'row')} in {name}" for name, table in measured.items()))
        if without := opened.searches.num_rows - measured[BITS_FILE].num_rows:
            typer.echo(
                f"{counted(without, 'search is', 'searches are')} missing there: no memory meets the run's criterion."
            )
        typer.echo(opened.page)


@app.command(epilog="Example: `capsweep compare runs/pythia-160m-20260101-120000 --with published`")
def compare(
    run: ReadRunArgument,
    paper: Annotated[Paper, typer.Option("--with", help="Paper whose figures and conventions are used.")] = "published",
    include: Include = None,
) -> None:
    """Print a run's results beside those of a paper, computed by the paper's conventions."""
    with bad_input():
        from rich.console import Console

        from orchestrator.api import reading
        from orchestrator.report.terminal import compared_table

        lines, published = reading.compare(run, paper), PUBLISHED_SETS[paper]
        console = Console()
        console.print(compared_table(lines))
        for number, footnote in enumerate(published.footnotes, 1):
            console.print(f"[{number}] {footnote}", markup=False, highlight=False)


@app.command(epilog="Example: `capsweep export runs/quickstart-20260101-120000 --to memories/ --format vllm`")
def export(
    run: ReadRunArgument,
    to: Annotated[Path, typer.Option(help="Folder to write to.", callback=expanded)],
    kind: Annotated[
        Literal["safetensors", "vllm", "llama.cpp"],
        typer.Option("--format", help="Tensors and a table, or files that a server reads, with a README."),
    ] = "safetensors",
    device: Device = "auto",
    include: Include = None,
) -> None:
    """Write the best memory of each search as safetensors with a table of them, or for vLLM or llama.cpp."""
    with bad_input():
        from orchestrator.api import reading

        count = reading.export(run, to, format=kind, device=device)
        if kind != "safetensors":
            typer.echo(f"{counted(count, 'memory')} in {to}; {to}/README.md says how {kind} reads them")
            return
        typer.echo(f"{counted(count, 'memory')} in {to}/memories.safetensors, their searches in {to}/memories.parquet")
