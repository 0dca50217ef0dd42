"""The verbs that share a run on the Hugging Face hub: push, pull.

Each imports what it needs when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.exits import Include, RunArgument, bad_input, expanded
from orchestrator.errors import literal
from tasks.wording import counted

app = typer.Typer()

Place = Annotated[str, typer.Argument(help="Data set on the hub, as hf://owner/name.", metavar="HUB")]


@app.command(epilog="Example: `capsweep push runs/quickstart-20260101-120000 hf://me/quickstart --private`")
def push(
    run: RunArgument,
    place: Place,
    private: Annotated[bool, typer.Option("--private", help="Make a new data set that only its owner sees.")] = False,
    without_texts: Annotated[
        bool,
        typer.Option("--without-texts", help="Leave out texts, and memories, each of which gives its text back."),
    ] = False,
    include: Include = None,
) -> None:
    """Push a run to the Hugging Face hub as one commit of a data set, without paths, hosts and secrets."""
    with bad_input():
        from orchestrator.publishing.push import Request
        from orchestrator.publishing.push import push as push_run
        from orchestrator.runs.directory import open_run
        from orchestrator.store.hub_files import hub_place

        request = Request(place=hub_place(place), private=private, without_texts=without_texts)
        push_run(open_run(run), request, lambda line: typer.echo(literal(line)))


@app.command(epilog="Example: `capsweep pull hf://me/quickstart --to runs/quickstart`")
def pull(
    place: Annotated[str, typer.Argument(help="Data set, as hf://owner/name[@REVISION].", metavar="HUB")],
    to: Annotated[Path, typer.Option(help="Folder to make; it becomes a run directory.", callback=expanded)],
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Accept models that execute code of their own when they are loaded.")
    ] = False,
    include: Include = None,
) -> None:
    """Fetch a run from the hub into a run directory; again, only what is missing or was pushed since."""
    with bad_input():
        from orchestrator.publishing.pull import pull as pull_run
        from orchestrator.store.hub_files import hub_place

        pulled = pull_run(hub_place(place), to, trust_code=trust_code)
        searches, probes = pulled.searches().num_rows, pulled.probes(["probe_id"]).num_rows
        typer.echo(f"{counted(searches, 'search', 'searches')} and {counted(probes, 'probe')} in {to}")
