"""The command `capsweep`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import BadInput, SessionFaultError, literal, suggest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show the values of variables, secrets among them
    rich_markup_mode="markdown",
    help="How many tokens of text fit into a few trainable input vectors of a frozen language model?",
    epilog="Exit codes: 0 done, 1 some searches failed, 2 bad input, 3 budget spent, 130 interrupted (nothing lost).",
)

SpecArgument = Annotated[Path, typer.Argument(help="Sweep file (YAML).", metavar="SPEC")]
RunArgument = Annotated[str, typer.Argument(help="Run directory, or its fsspec URL.", metavar="RUN")]
Inline = Annotated[bool, typer.Option("--inline", help="Run in this process, without Ray.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; without it one is started here.")]
TakeOver = Annotated[bool, typer.Option("--take-over", help="Take the run from a session that is gone.")]
AllowFewer = Annotated[bool, typer.Option("--allow-fewer", help="Go on when a source has fewer texts than asked.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@contextmanager
def _bad_input(again: str = "`capsweep resume` goes on with the run") -> Iterator[None]:
    """Say every problem on a line of its own and exit with 2."""
    from orchestrator.redact import redact
    from tasks.contract import TaskError

    try:
        yield
    except (BadInput, TaskError) as error:
        typer.echo(literal(redact(str(error))), err=True)
        raise typer.Exit(2) from None
    except (OSError, SessionFaultError, MemoryError) as error:
        said = literal(redact(str(error) or "out of memory"))
        typer.echo(f"{said}\nWhat is on disk stays; {again}.", err=True)
        raise typer.Exit(1) from None


@app.command(epilog="Example: `capsweep check sweeps/quickstart.yaml`")
def check(
    spec: SpecArgument,
    allow_fewer: AllowFewer = False,
    tflops: Annotated[float, typer.Option(min=0.001, help="10^12 operations a second of the device to price.")] = 100.0,
) -> None:
    """Say every problem of a sweep file, or what the sweep will do and about what it costs."""
    with _bad_input():
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        from orchestrator.estimate import estimate
        from orchestrator.plan import make_plan
        from orchestrator.spec import load_sweep

        plan = make_plan(load_sweep(spec), allow_fewer=allow_fewer)
        console = Console()
        table = Table(
            Column("model", no_wrap=True), "parameters", "context", "texts", "searches", "probes", "Tflop", "hours"
        )
        for row in estimate(plan):
            table.add_row(
                Text(literal(row.model)),
                f"{row.parameters:,}",
                str(row.context or "-"),
                str(row.samples),
                str(row.searches),
                f"~{row.probes:,}",
                f"~{row.tera_operations:,.1f}",
                f"~{row.gpu_hours(tflops):,.2g}",
            )
        console.print(table)
        for note in plan.notes:
            console.print(f"note: {literal(note)}", markup=False, highlight=False)
        console.print(
            "Probes and operations (10^12) are rough: they suppose a tenth of the theoretical capacity. "
            f"Hours are those of one device at {tflops:g} Tflop/s, kept busy (--tflops)."
        )


@app.command(epilog="Example: `capsweep run sweeps/quickstart.yaml --inline`")
def run(
    spec: SpecArgument,
    run_dir: Annotated[str | None, typer.Option(help="Where the run lies; by default <storage>/<name>-<time>.")] = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
) -> None:
    """Run a sweep; on a directory that holds the same sweep, go on with it."""
    with _bad_input():
        from rich.console import Console

        from orchestrator.launch import launch, new_run_url
        from orchestrator.plan import make_plan
        from orchestrator.run_directory import drawn_texts
        from orchestrator.spec import load_sweep

        sweep = load_sweep(spec)
        url = run_dir or new_run_url(sweep)
        plan = make_plan(sweep, allow_fewer=allow_fewer, drawn=drawn_texts(url))
        code = launch(plan, url, inline=inline, address=address, take_over=take_over, console=Console())
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep resume runs/quickstart-20260101-120000`")
def resume(
    run: RunArgument,
    inline: Inline = False,
    address: Address = None,
    take_over: TakeOver = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what the machine failed.")] = False,
) -> None:
    """Go on with a run: what is on disk is kept, what was in flight is asked again."""
    with _bad_input():
        from rich.console import Console

        from orchestrator.launch import launch
        from orchestrator.plan import make_plan
        from orchestrator.run_directory import drawn_texts, open_run

        # The samples that were there at the start are known: fewer of them than asked for is no news.
        plan = make_plan(open_run(run).sweep, allow_fewer=True, drawn=drawn_texts(run))
        code = launch(
            plan,
            run,
            inline=inline,
            address=address,
            take_over=take_over,
            retry_failed=retry_failed,
            console=Console(),
        )
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep tune sweeps/quickstart.yaml --trials 25 --inline`")
def tune(
    spec: SpecArgument,
    trials: Annotated[int, typer.Option(min=1, help="Recipes to try in all, the sweep's own among them.")],
    run_dir: Annotated[str | None, typer.Option(help="Folder; by default <storage>/<name>-tune-<time>.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Sweep file whose texts the result is reported on; else SPEC's are split.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Row-steps times tokens a search; by default what SPEC's recipe spends.")
    ] = None,
    inline: Inline = False,
    address: Address = None,
    allow_fewer: AllowFewer = False,
    take_over: TakeOver = False,
) -> None:
    """Search the recipe that proves most tokens with a given effort; the same command again goes on."""
    with _bad_input(again="the same command goes on"):
        from rich.console import Console

        from orchestrator.spec import load_sweep
        from orchestrator.tuning.launch import Request, new_tune_folder
        from orchestrator.tuning.launch import tune as tune_sweep

        sweep = load_sweep(spec)
        others = None if report is None else load_sweep(report)
        request = Request(sweep=sweep, report=others, trials=trials, budget=budget, allow_fewer=allow_fewer)
        url = run_dir or new_tune_folder(sweep)
        code = tune_sweep(request, url, inline=inline, address=address, take_over=take_over, console=Console())
    raise typer.Exit(code)


@app.command(epilog="Example: `capsweep status runs/quickstart-20260101-120000`")
def status(
    run: RunArgument,
    limit: Annotated[int, typer.Option(help="Searches to show.")] = 20,
) -> None:
    """Show what is on disk of a run, also while it goes on."""
    with _bad_input():
        from orchestrator.run_directory import open_run
        from orchestrator.run_status import show_status

        show_status(open_run(run), limit=limit)


@app.command(epilog="Example: `capsweep report runs/cramming-20260101-120000 runs/one-step-20260101-130000`")
def report(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or their fsspec URLs.", metavar="RUN [RUN ..]")],
    to: Annotated[Path, typer.Option(help="Where the page of several runs goes.")] = Path("report.html"),
    tables: Annotated[Path | None, typer.Option(help="Also write the tables as CSV, Markdown and LaTeX here.")] = None,
    images: Annotated[str | None, typer.Option(help="Also write the figures: png, svg or pdf.")] = None,
) -> None:
    """Write a run's page, report/index.html, anew from its tables; of several runs one page together."""
    with _bad_input():
        from orchestrator.reporting import all_tables, write_images, write_page, write_report, write_tables
        from orchestrator.run_directory import open_run

        if images not in (None, "png", "svg", "pdf"):
            raise BadInput(f"--images: found {images!r}. {suggest(images, ['png', 'svg', 'pdf'])}")
        opened = [open_run(run) for run in runs]
        if len(opened) == 1:
            typer.echo(write_report(opened[0]))
        read = all_tables(opened) if len(opened) > 1 or tables or images else None
        if read is not None and len(opened) > 1:
            write_page(opened, read, to)
            typer.echo(to)
        if read is not None and tables:
            typer.echo(f"{len(write_tables(read, tables))} tables in {tables}")
        if read is not None and images:
            folder = tables or to.parent / "figures"
            typer.echo(f"{len(write_images(read, folder, images))} figures in {folder}")


@app.command(epilog="Example: `capsweep verify runs/quickstart-20260101-120000`")
def verify(run: RunArgument, device: Device = "auto") -> None:
    """Decode every stored memory again, one text at a time; exit 1 if one does not give its text back."""
    with _bad_input():
        from orchestrator.memories import verify as verify_run
        from orchestrator.run_directory import open_run

        total = wrong = 0
        for found in verify_run(open_run(run), device=device):
            total += 1
            if found.proof.exact_prefix != found.claimed:
                wrong += 1
                typer.echo(
                    f"{literal(found.source)} (probe {found.probe_id}): {found.proof.exact_prefix} of {found.claimed} "
                    f"tokens; smallest margin when it was certified {found.row_margin:.2g}"
                )
        typer.echo(f"{total} memories decoded, {total - wrong} exact, {wrong} not")
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog="Example: `capsweep decode runs/quickstart-20260101-120000 3f2a`")
def decode(
    run: RunArgument,
    search_id: Annotated[str, typer.Argument(help="Search, or the beginning of its id.")],
    device: Device = "auto",
) -> None:
    """Print the text that a search's stored memory gives back."""
    with _bad_input():
        from orchestrator.memories import decode as decode_search
        from orchestrator.run_directory import open_run

        text = decode_search(open_run(run), search_id, device=device)
        typer.echo(literal(text) if sys.stdout.isatty() else text)


@app.command(epilog="Example: `capsweep measure runs/quickstart-20260101-120000`")
def measure(run: RunArgument, device: Device = "auto") -> None:
    """Measure what needs the models again (bits ledger, lines between memories), and write the page with it."""
    with _bad_input():
        from orchestrator.measure import measure as measure_run
        from orchestrator.reporting import write_report
        from orchestrator.run_directory import open_run
        from orchestrator.store.reader import BITS_FILE, LINES_FILE, write_table

        opened = open_run(run)
        bits, lines = measure_run(opened, device=device)
        write_table(opened.files, BITS_FILE, bits)
        write_table(opened.files, LINES_FILE, lines)
        typer.echo(f"{bits.num_rows} searches in {BITS_FILE}, {lines.num_rows} points in {LINES_FILE}")
        typer.echo(write_report(opened))


@app.command(epilog="Example: `capsweep compare runs/pythia-160m-20260101-120000 --with published`")
def compare(
    run: RunArgument,
    paper: Annotated[str, typer.Option("--with", help="published, progressive or one_step.")] = "published",
    called: Annotated[
        list[str] | None, typer.Option("--called", help="RUN_NAME=PAPER_NAME of a model; may be given again.")
    ] = None,
    gains_where: Annotated[str, typer.Option(help="beyond_capacity (published) or all.")] = "beyond_capacity",
    scored_to_length: Annotated[
        bool, typer.Option(help="Scale sums over L - 1 scored tokens to L (published).")
    ] = True,
) -> None:
    """Print what a run measured beside what a paper published, by the paper's conventions."""
    with _bad_input():
        from rich.console import Console

        from orchestrator.report.published_measures import FOOTNOTES, Conventions
        from orchestrator.report.published_measures import compare as compare_tables
        from orchestrator.report.terminal import compared_table
        from orchestrator.run_directory import open_run

        if paper not in FOOTNOTES:
            raise BadInput(f"--with: found {paper!r}. {suggest(paper, FOOTNOTES)}")
        if gains_where not in ("beyond_capacity", "all"):
            raise BadInput(f"--gains-where: found {gains_where!r}. {suggest(gains_where, ['beyond_capacity', 'all'])}")
        if odd := [pair for pair in called or [] if "=" not in pair]:
            raise BadInput(f"--called: found {odd[0]!r}; wanted RUN_NAME=PAPER_NAME.")
        opened = open_run(run)
        conventions = Conventions(gains_where=gains_where, scored_to_length=scored_to_length)
        names = dict(pair.rsplit("=", 1) for pair in called or [])
        lines = compare_tables(opened.probes(), opened.searches(), paper, conventions=conventions, called=names)
        if not lines:
            models = sorted(set(opened.searches()["model"].to_pylist()))
            raise BadInput(
                f"{run}: nothing of it is among the figures of {paper!r}: models {', '.join(models)}. Sources are to "
                "be called pg19, fanfics or random (name: pg19 in a text's entry); --called RUN_NAME=PAPER_NAME names "
                "models."
            )
        console = Console()
        console.print(compared_table(lines))
        for number, footnote in enumerate(FOOTNOTES[paper], 1):
            console.print(f"[{number}] {footnote}", markup=False, highlight=False)


@app.command(epilog="Example: `capsweep export runs/quickstart-20260101-120000 --to memories/`")
def export(run: RunArgument, to: Annotated[Path, typer.Option(help="Folder to write to.")]) -> None:
    """Write the best memory of each search as safetensors, and a table of them."""
    with _bad_input():
        from orchestrator.memories import export as export_run
        from orchestrator.run_directory import open_run

        count = export_run(open_run(run), to)
        typer.echo(f"{count} memories in {to}/memories.safetensors, their searches in {to}/memories.parquet")


def main() -> None:
    """The entry point of the command."""
    try:
        app()
    except Exception:
        from orchestrator.redact import redact

        sys.exit(redact(traceback.format_exc()))


if __name__ == "__main__":
    sys.exit(main())
