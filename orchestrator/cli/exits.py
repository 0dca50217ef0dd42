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


def expanded(path: Path | None) -> Path | None:
    """The path with a leading `~` replaced: shells leave it in --option=~/path."""
    return None if path is None else path.expanduser()


SpecArgument = Annotated[Path, typer.Argument(help="Sweep file (YAML).", metavar="SPEC", callback=expanded)]
RunArgument = Annotated[str, typer.Argument(help="Run directory, its fsspec URL, or hf://owner/name.", metavar="RUN")]
AllowFewer = Annotated[bool, typer.Option("--allow-fewer", help="Continue if a source has fewer texts than asked for.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="Variable that other machines get, such as HF_TOKEN; repeatable."),
]


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
