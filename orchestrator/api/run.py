"""A run as an object: its tables, memories and page.

Knows nothing of how a run is made.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeAlias, TypeVar, cast

from orchestrator.errors import BadInput
from tasks.values import TaskError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from orchestrator.launch import Exit
    from orchestrator.runs.directory import Run as RunDirectory
    from orchestrator.store.files import Files

Device = Literal["auto", "cpu", "cuda", "mps"]
Asked = ParamSpec("Asked")
Given = TypeVar("Given")
One = TypeVar("One")


def bad_input_alone(call: Callable[Asked, Given]) -> Callable[Asked, Given]:
    """Let a function raise BadInput where a task refuses something: a caller has one class to catch."""

    @wraps(call)
    def checked(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
        try:
            return call(*args, **kwargs)
        except TaskError as error:
            raise BadInput(*map(str, error.args)) from error

    return checked


@dataclass(frozen=True)
class Run:
    """One run. What it has on disk is read when it is asked for, so tables are up to date while a session writes."""

    url: str
    """Its folder or fsspec URL."""
    exit_code: "Exit | None" = None
    """How the call that ran it ended, as the command would have; None for a run that was only opened."""

    @cached_property
    def _files(self) -> "Files":
        """Its files; of a run on the hub, at the commit that was found first."""
        from orchestrator.redact import refuse_credentials
        from orchestrator.store.files import open_files

        refuse_credentials(self.url)
        return open_files(self.url)

    @property
    def directory(self) -> "RunDirectory":
        """Everything else that can be read of it, as it is now; raises BadInput when there is no run."""
        from orchestrator.runs.directory import run_in

        return run_in(self._files)

    @property
    def searches(self) -> "pa.Table":
        """One row per search."""
        return self.directory.searches()

    @property
    def probes(self) -> "pa.Table":
        """One row per outcome of a probe; without memories and values per token or length, which `read` has."""
        return self.directory.probes()

    @property
    def samples(self) -> "pa.Table":
        """One row per model and text."""
        return self.directory.samples()

    @property
    def page(self) -> str:
        """Path or URL of its page, which every session writes at its end."""
        from orchestrator.runs.directory import REPORT_FILE

        return f"{self.directory.files.url}/{REPORT_FILE}"

    @bad_input_alone
    def memory(self, search_id: str) -> "NDArray[np.float32]":
        """The best memory of a search, (vectors, width).

        Args:
            search_id: The id, or the beginning of one.

        Raises:
            BadInput: when it begins no search_id of the run, or several, or the search has no memory.
        """
        from orchestrator.analysis.memories import best_memory

        return best_memory(self.directory, search_id).vectors

    @bad_input_alone
    def report(self) -> str:
        """Write the run's page anew; returns its path or URL."""
        from orchestrator.report.writing import write_report

        return write_report(self.directory)


RunSource: TypeAlias = str | os.PathLike[str] | Run
"""What names a run: its folder or URL, or the run itself."""


def as_run(run: RunSource) -> Run:
    """The run that this names; whether there is one shows when it is read."""
    return run if isinstance(run, Run) else Run(os.fspath(run))


def as_list(given: One | Iterable[One]) -> list[One]:
    """What was given as a list; a text, a path or a run by itself is meant as its only entry."""
    alone = isinstance(given, str | os.PathLike | Run)
    return [cast(One, given)] if alone else list(cast("Iterable[One]", given))


def to_write_to(run: RunSource) -> Run:
    """The run that this names, for a verb that writes into it.

    Raises:
        BadInput: when there is none, or it is on the hub.
    """
    from orchestrator.runs import directory

    opened = as_run(run)
    directory.open_run(opened.url, to_write=True)
    return opened


def open_run(run: RunSource) -> Run:
    """The run in a folder or at a URL.

    Raises:
        BadInput: when there is none, or its sweep cannot be read.
    """
    opened = as_run(run)
    _ = opened.directory
    return opened
