"""How a verb reports errors: those that a user can fix take a line each, the rest are left to the caller.

Imports are deferred, so that `--help` answers at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from orchestrator.errors import BadInput, SessionFaultError, literal

RunArgument = Annotated[str, typer.Argument(help="Run directory, or its fsspec URL.", metavar="RUN")]


@contextmanager
def bad_input(again: str = "`capsweep resume` continues the run") -> Iterator[None]:
    """Exit with 2 on bad input, one line per problem, and with 1 when the machine failed or the run was lost."""
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
        message = literal(redact(str(error) or "out of RAM"))
        typer.echo(f"{message}\nWhat is on disk is kept; {again}.", err=True)
        raise typer.Exit(1) from None
