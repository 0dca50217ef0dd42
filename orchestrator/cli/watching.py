"""The verb that serves a page: watch. It imports what it needs when it runs."""

from typing import Annotated

import typer

from orchestrator.cli.exits import Include, bad_input
from orchestrator.errors import BadInput, literal

app = typer.Typer()


@app.command(epilog="Examples: `capsweep watch runs/`, `capsweep watch s3://bucket/runs --port 8300`")
def watch(
    run: Annotated[str, typer.Argument(help="Run directory, or a folder with runs; or a URL.", metavar="RUN|ROOT")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; by default any free one.")] = 0,
    include: Include = None,
) -> None:
    """Serve the page of a run, or of all runs in a folder, to a browser on this machine; it follows rows as they land.

    Reads files only, so it works beside a session on any machine. Ctrl-C ends it.
    """
    with bad_input():
        try:
            from orchestrator.watching.watch import watch as watch_url
        except ImportError as error:
            raise BadInput(f"watch: needs the extra `watch` ({error}): pip install 'capsweep[watch]'.") from error

        watch_url(run, port=port, on_message=lambda line: typer.echo(literal(line)))
