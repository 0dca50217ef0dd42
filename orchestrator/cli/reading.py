"""The verbs that read a run: report, verify, decode, measure, compare, export.

Each imports what it needs when it runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.exits import RunArgument, bad_input, expanded
from orchestrator.errors import BadInput, literal
from orchestrator.report.papers import PUBLISHED_SETS, Paper
from tasks.wording import counted

app = typer.Typer()

Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the models compute.")]


@app.command(epilog="Example: `capsweep report runs/cramming-20260101-120000 runs/one-step-20260101-130000`")
def report(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or their fsspec URLs.", metavar="RUN [RUN ..]")],
    to: Annotated[Path, typer.Option(help="File for the page of several runs.", callback=expanded)] = Path(
        "report.html"
    ),
    tables: Annotated[
        Path | None, typer.Option(help="Also write the tables as CSV, Markdown and LaTeX here.", callback=expanded)
    ] = None,
    images: Annotated[
        Literal["png", "svg", "pdf"] | None,
        typer.Option(help="Also write the figures, in this format (needs the extra `images`)."),
    ] = None,
    width: Annotated[str, typer.Option(help="Width of an image: 3.3in, 8.4cm, 84mm or 240pt.")] = "3.3in",
) -> None:
    """Rewrite a run's page, report/index.html, from its tables; for several runs, write one page of all."""
    with bad_input():
        from orchestrator.report.figures.printed import inches_of
        from orchestrator.report.writing import all_tables, write_images, write_page, write_report, write_tables
        from orchestrator.runs.directory import open_run

        inches = inches_of(width)
        opened = [open_run(run) for run in runs]
        if len(opened) == 1:
            typer.echo(write_report(opened[0]))
        read = all_tables(opened) if len(opened) > 1 or tables or images else None
        if read is not None and len(opened) > 1:
            write_page(opened, read, to)
            typer.echo(to)
        if read is not None and tables:
            typer.echo(f"{counted(len(write_tables(read, tables)), 'table')} in {tables}")
        if read is not None and images:
            folder = tables or to.parent / "figures"
            typer.echo(f"{counted(len(write_images(read, folder, images, inches)), 'figure')} in {folder}")
        for note in dict.fromkeys(note for run in opened for note in run.notes):
            typer.echo(f"note: {literal(note)}", err=True)


@app.command(epilog="Example: `capsweep verify runs/quickstart-20260101-120000`")
def verify(run: RunArgument, device: Device = "auto") -> None:
    """Decode every stored memory again, one text at a time; exit 1 if any does not reproduce its text."""
    with bad_input():
        from orchestrator.analysis.memories import verify as verify_run
        from orchestrator.runs.directory import open_run

        total = wrong = 0
        for found in verify_run(open_run(run), device=device):
            total += 1
            if found.proof.exact_prefix != found.claimed:
                wrong += 1
                typer.echo(
                    f"{literal(found.source)} (probe {found.probe_id}): {found.proof.exact_prefix} of "
                    f"{counted(found.claimed, 'token')}; smallest margin when it was certified {found.row_margin:.2g}"
                )
        typer.echo(f"{counted(total, 'memory')} decoded, {total - wrong} exact, {wrong} not")
        if not total:
            # Happens where the criterion accepts memories that do not reproduce the first token.
            typer.echo("by the column exact_prefix, no memory of this run reproduces even the first token by itself")
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog="Example: `capsweep decode runs/quickstart-20260101-120000 3f2a`")
def decode(
    run: RunArgument,
    search_id: Annotated[str, typer.Argument(help="Search id, or the beginning of one.")],
    device: Device = "auto",
) -> None:
    """Print the text that the stored memory of a search decodes to."""
    with bad_input():
        from orchestrator.analysis.memories import decode as decode_search
        from orchestrator.runs.directory import open_run

        text = decode_search(open_run(run), search_id, device=device)
        typer.echo(literal(text) if sys.stdout.isatty() else text)


@app.command(epilog="Example: `capsweep measure runs/quickstart-20260101-120000`")
def measure(run: RunArgument, device: Device = "auto") -> None:
    """Compute the measures that need the models (bits ledger, lines between memories), and rewrite the page."""
    with bad_input():
        from orchestrator.analysis.bits_ledger import measure_run
        from orchestrator.report.writing import write_report
        from orchestrator.runs.directory import open_run
        from orchestrator.store.parquet import BITS_FILE, LINES_FILE, write_table

        opened = open_run(run)
        bits, lines = measure_run(opened, device=device)
        write_table(opened.files, BITS_FILE, bits)
        write_table(opened.files, LINES_FILE, lines)
        typer.echo(
            f"{counted(bits.num_rows, 'search')} in {BITS_FILE}, {counted(lines.num_rows, 'point')} in {LINES_FILE}"
        )
        if without := opened.searches().num_rows - bits.num_rows:
            typer.echo(
                f"{counted(without, 'search is', 'searches are')} missing there: no memory meets the run's criterion."
            )
        typer.echo(write_report(opened))


@app.command(epilog="Example: `capsweep compare runs/pythia-160m-20260101-120000 --with published`")
def compare(
    run: RunArgument,
    paper: Annotated[Paper, typer.Option("--with", help="Paper whose figures and conventions are used.")] = "published",
) -> None:
    """Print a run's results beside those of a paper, computed by the paper's conventions."""
    with bad_input():
        from rich.console import Console

        from orchestrator.report.comparison import compare as compare_tables
        from orchestrator.report.terminal import compared_table
        from orchestrator.runs.directory import open_run

        opened, published = open_run(run), PUBLISHED_SETS[paper]
        lines = compare_tables(opened.probes(), opened.searches(), paper)
        if not lines:
            models = sorted(set(opened.searches()["model"].to_pylist()))
            raise BadInput(
                f"{run}: {paper!r} has no figures for its searches: models {', '.join(models)}. Name sources pg19, "
                "fanfics or random (name: pg19 in a text's entry), and the folder of a local model as the paper names "
                f"the model. The paper counts {published.counted}."
            )
        console = Console()
        console.print(compared_table(lines))
        for number, footnote in enumerate(published.footnotes, 1):
            console.print(f"[{number}] {footnote}", markup=False, highlight=False)


@app.command(epilog="Example: `capsweep export runs/quickstart-20260101-120000 --to memories/`")
def export(run: RunArgument, to: Annotated[Path, typer.Option(help="Folder to write to.", callback=expanded)]) -> None:
    """Write the best memory of each search as safetensors, and a table of them."""
    with bad_input():
        from orchestrator.analysis.memories import export as export_run
        from orchestrator.runs.directory import open_run

        count = export_run(open_run(run), to)
        typer.echo(f"{counted(count, 'memory')} in {to}/memories.safetensors, their searches in {to}/memories.parquet")
