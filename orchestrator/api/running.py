"""The verbs that plan or run a sweep: check, run, resume, extend.

Each takes a sweep as a file, a mapping or a `Sweep`, shows its progress on a console, and returns what a script goes on
with. Options are those of the command by the same name.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.api.run import Run, RunSource, as_list, as_run, bad_input_alone

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.planning.estimate import ModelEstimate
    from orchestrator.planning.plan import Plan
    from orchestrator.spec.sweep_file import SweepSource


@bad_input_alone
def include(path: str | os.PathLike[str]) -> None:
    """Make known the tasks, text sources and recipes of a Python file, or of all in a folder, as `--include` does.

    Raises:
        BadInput: when there is no such file, one fails, or offers nothing.
    """
    from tasks import plugins

    plugins.include(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A sweep in which no problem was found."""

    plan: "Plan"
    """What a run of it does: its models, samples and searches."""
    estimates: "Sequence[ModelEstimate]"
    """What it will cost, roughly, for each model."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before a run."""
        return self.plan.notes


@bad_input_alone
def check(
    sweep: "SweepSource",
    *,
    overrides: Sequence[str] = (),
    allow_fewer: bool = False,
    timed: bool = True,
    console: "Console | None" = None,
) -> Checked:
    """Plan a sweep and estimate its cost, and write nothing.

    Args:
        sweep: File, mapping or `Sweep`.
        overrides: Fields to set in it, such as `num_vectors=[1,2]`.
        allow_fewer: Go on if a source has fewer texts than asked for.
        timed: Whether to load each model for a few seconds of its steps here; else estimates have no `seconds`.
        console: Where the reasons are shown why a model could not be timed.

    Raises:
        BadInput: with every problem of the sweep.
    """
    from orchestrator.planning.planner import make_plan
    from orchestrator.spec.sweep_file import sweep_of
    from orchestrator.tracking.mirror import refuse_missing

    wanted = sweep_of(sweep, as_list(overrides))
    refuse_missing(wanted.tracking, sweep if isinstance(sweep, str | os.PathLike) else wanted.name)
    plan = make_plan(wanted, allow_fewer=allow_fewer, measure=False)
    return with_cost(plan, timed=timed, console=console or standard_output())


def with_cost(plan: "Plan", *, timed: bool, console: "Console") -> Checked:
    """The plan with its estimates; see `check`."""
    from orchestrator.planning.estimate import estimate
    from orchestrator.planning.pricing import prices_here

    return Checked(plan=plan, estimates=estimate(plan, prices_here(plan, console) if timed else {}))


def planned(
    sweep: "SweepSource",
    overrides: Sequence[str],
    *,
    run_dir: RunSource | None,
    allow_fewer: bool,
) -> "tuple[Plan, str]":
    """What `run` would do with these arguments, and the folder or URL of the run."""
    from orchestrator.launch import new_run_url
    from orchestrator.planning.planner import make_plan
    from orchestrator.runs.directory import drawn_texts, held_sweep, samples_of
    from orchestrator.spec.sweep_file import sweep_of

    words = as_list(overrides)
    asked = sweep_of(sweep, words)
    url = new_run_url(asked) if run_dir is None else as_run(run_dir).url
    held, samples = held_sweep(url), samples_of(url)
    plan = make_plan(asked, allow_fewer=allow_fewer, drawn=drawn_texts(url), held=held, samples=samples)
    return replace(plan, overrides=tuple(words)), url


@bad_input_alone
def run(
    sweep: "SweepSource",
    *,
    overrides: Sequence[str] = (),
    run_dir: RunSource | None = None,
    inline: bool = False,
    address: str | None = None,
    allow_fewer: bool = False,
    take_over: bool = False,
    reuse: RunSource | Iterable[RunSource] = (),
    env: Sequence[str] = (),
    console: "Console | None" = None,
    verbose: bool = False,
    overridden: Sequence[str] = (),
) -> Run:
    """Run a sweep, or resume it in a directory that holds the same sweep.

    An interrupt (Ctrl-C, or the notebook's stop button) ends it with nothing lost; `resume` goes on.

    Args:
        sweep: File, mapping or `Sweep`.
        overrides: Fields to set in it, such as `num_vectors=[1,2]`.
        run_dir: Folder or URL of the run; by default STORAGE/NAME-TIME.
        inline: Run in this process, without Ray.
        address: Ray cluster to join; by default one is started here.
        allow_fewer: Go on if a source has fewer texts than asked for.
        take_over: Take over a run whose session is gone.
        reuse: Runs, or folders of runs, whose finished searches are taken over.
        env: Names of variables that other machines get.
        console: Where progress is shown; on `Console(quiet=True)`, only what went wrong is, on standard error.
        verbose: Show a line for each probe that ends, too.
        overridden: Overrides that the sweep has in it already, which are recorded, too.

    Raises:
        BadInput: with every problem of the sweep, or when the run directory cannot be used; nothing is written then.
    """
    from orchestrator.launch import launch

    plan, url = planned(sweep, overrides, run_dir=run_dir, allow_fewer=allow_fewer)
    code = launch(
        replace(plan, overrides=(*plan.overrides, *overridden)),
        url,
        inline=inline,
        address=address,
        take_over=take_over,
        reuse=[as_run(each).url for each in as_list(reuse)],
        environment=as_list(env),
        console=console or standard_output(),
        verbose=verbose,
    )
    return Run(url, code)


@bad_input_alone
def resume(
    run: RunSource,
    *,
    inline: bool = False,
    address: str | None = None,
    take_over: bool = False,
    retry_failed: bool = False,
    env: Sequence[str] = (),
    console: "Console | None" = None,
    verbose: bool = False,
) -> Run:
    """Resume a run: rows on disk are kept, and probes that were in flight run again. See `run` for the arguments.

    `retry_failed` retries what the machine failed.

    Raises:
        BadInput: when there is no such run, or its inputs have changed.
    """
    from orchestrator.execution.faults import RESUME, can_go_on
    from orchestrator.launch import launch
    from orchestrator.planning.planner import make_plan
    from orchestrator.runs.directory import drawn_texts, open_run, samples_of

    url = as_run(run).url
    sweep = open_run(url).sweep
    with can_go_on(RESUME):
        # The number of samples was settled when the run began: having fewer than asked for is not an error now.
        plan = make_plan(sweep, allow_fewer=True, drawn=drawn_texts(url), samples=samples_of(url))
        code = launch(
            plan,
            url,
            inline=inline,
            address=address,
            take_over=take_over,
            retry_failed=retry_failed,
            environment=as_list(env),
            console=console or standard_output(),
            verbose=verbose,
        )
    return Run(url, code)


@bad_input_alone
def extend(
    run: RunSource,
    sweep: "SweepSource",
    *,
    overrides: Sequence[str] = (),
    inline: bool = False,
    address: str | None = None,
    allow_fewer: bool = False,
    take_over: bool = False,
    reuse: RunSource | Iterable[RunSource] = (),
    env: Sequence[str] = (),
    console: "Console | None" = None,
    verbose: bool = False,
) -> Run:
    """Add a sweep's models, texts, k and seeds to a run, and resume it: finished searches stay finished.

    See `run` for the arguments.

    Raises:
        BadInput: when there is no such run, or the sweep would change one of its results.
    """
    from orchestrator.launch import launch
    from orchestrator.runs.extension import plan_extension

    url = as_run(run).url
    plan, extension = plan_extension(url, sweep, overrides=as_list(overrides), allow_fewer=allow_fewer)
    code = launch(
        plan,
        url,
        inline=inline,
        address=address,
        take_over=take_over,
        extension=extension,
        reuse=[as_run(each).url for each in as_list(reuse)],
        environment=as_list(env),
        console=console or standard_output(),
        verbose=verbose,
    )
    return Run(url, code)


def standard_output() -> "Console":
    """Standard output; rich finds out whether that is a terminal, a file or a notebook."""
    from rich.console import Console

    return Console()
