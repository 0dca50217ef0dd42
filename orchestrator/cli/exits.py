"""What verbs share: options, and how errors are reported.

Errors that a user can fix take a line each; the rest are left to the caller.

Imports are deferred, so that `--help` answers at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import BadInput, SessionFaultError, literal
from tasks import homes


def expanded(path: Path | None) -> Path | None:
    """The path with a leading `~` replaced: shells leave it in --option=~/path."""
    return None if path is None else homes.expanded(path)


SpecArgument = Annotated[Path, typer.Argument(help="Sweep file (YAML).", metavar="SPEC", callback=expanded)]
RunArgument = Annotated[str, typer.Argument(help="Run directory, or its fsspec URL.", metavar="RUN")]
ReadRunArgument = Annotated[
    str, typer.Argument(help="Run directory, its fsspec URL, or hf://owner/name.", metavar="RUN")
]
AllowFewer = Annotated[bool, typer.Option("--allow-fewer", help="Continue if a source has fewer texts than asked for.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="Variable that other machines get, such as HF_TOKEN; repeatable."),
]

Inline = Annotated[bool, typer.Option("--inline", help="Run in this process, without Ray.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; by default one is started here.")]
TakeOver = Annotated[bool, typer.Option("--take-over", help="Take over a run whose session is gone.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Fields to set in the file, such as num_vectors=[1,2] models.0.dtype=bfloat16.",
        metavar="KEY=VALUE",
        show_default=False,
    ),
]
Reuse = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUN|FOLDER",
        help="Take over the finished searches that this sweep asks for, too, from a run or all runs in a folder; "
        "repeatable.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would run and its rough cost; write nothing, run nothing.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the folder alone; what went wrong goes to standard error.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print a line for each probe that ends, too.")]


def _included(paths: list[str] | None) -> list[str] | None:
    """Include each of these files, before the verb begins."""
    if paths:
        with bad_input():
            from tasks.plugins import include

            for path in paths:
                include(path)
    return paths


Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="Python with tasks, text sources or recipes of your own; repeatable.",
        callback=_included,
        show_default=False,
    ),
]
"""Needs nothing of the verb but a parameter."""


@contextmanager
def bad_input() -> Iterator[None]:
    """Exit with 2 on bad input, one line per problem, and with 1 when the machine failed or the run was lost.

    A fault that leaves something to go on from has a note about that (orchestrator/execution/faults.py).
    """
    from orchestrator.redact import redact
    from orchestrator.store.held import LostLockError
    from tasks.values import TaskError

    try:
        yield
    except (BadInput, TaskError) as error:
        typer.echo(literal(redact(str(error))), err=True)
        raise typer.Exit(2) from None
    except LostLockError as error:
        # Not to be resumed: whoever took the run over continues it.
        typer.echo(literal(redact(str(error))), err=True)
        raise typer.Exit(1) from None
    except (OSError, SessionFaultError, MemoryError) as error:
        notes = dict.fromkeys(getattr(error, "__notes__", ()))
        lines = [str(error) or "out of RAM", *notes]
        typer.echo(literal(redact("\n".join(lines))), err=True)
        raise typer.Exit(1) from None


def show_folder(url: str, *, quiet: bool) -> None:
    """Print where the results are, if nothing else was printed."""
    if quiet:
        typer.echo(literal(url))
