"""Run a sweep from its plan to its report, in process or on Ray.

Defines the order of the steps; other modules carry them out.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from orchestrator.cluster.environment import carried
from orchestrator.errors import BadInput, literal, typed
from orchestrator.execution.executor import Executor
from orchestrator.execution.faults import RESUME, can_go_on
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop, stop_on_signals
from orchestrator.planning.plan import Plan
from orchestrator.redact import redact
from orchestrator.report.live import LiveView
from orchestrator.report.tables import capacity_by_group
from orchestrator.report.terminal import searches_table, summary_table
from orchestrator.report.writing import write_report
from orchestrator.runs.directory import REPORT_FILE
from orchestrator.runs.extension import Extension
from orchestrator.runs.session import Session, SessionEnd, open_session
from orchestrator.spec.sweep import Sweep
from orchestrator.store.held import LostLockError
from orchestrator.tracking.mirror import mirroring
from tasks.values import EngineStats
from tasks.wording import counted


class Exit(IntEnum):
    """Exit codes of `run` and `resume`."""

    DONE = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    BUDGET_SPENT = 3
    INTERRUPTED = 130


def check_place(address: str | None, *, inline: bool) -> None:
    """Raise BadInput for a Ray cluster to join (`address`) without Ray (`inline`)."""
    if inline and address is not None:
        raise BadInput(f"--inline --address {address}: a run in this process joins no cluster. Leave out one of them.")


def new_run_url(sweep: Sweep) -> str:
    """STORAGE/NAME-DATE-TIME."""
    return f"{sweep.storage.rstrip('/')}/{sweep.name}-{datetime.now():%Y%m%d-%H%M%S}"


def launch(
    plan: Plan,
    url: str,
    *,
    inline: bool,
    address: str | None,
    take_over: bool,
    console: Console,
    retry_failed: bool = False,
    extension: Extension | None = None,
    reuse: Sequence[str] = (),
    environment: Sequence[str] = (),
    verbose: bool = False,
) -> Exit:
    """Run the plan's open searches in the run at `url`, show the results and write the report.

    `extension` is what the plan adds to an existing run, `reuse` names runs whose finished searches are taken over,
    and `environment` names variables that engines get on other machines. A quiet console shows nothing; what went
    wrong is then written to standard error. `verbose` shows a line for each probe that ends.

    Raises:
        BadInput: when the run directory cannot be used, or there is no Ray to join; nothing has been written.
    """
    check_place(address, inline=inline)
    variables = carried(environment)
    stop = Stop(budget_seconds=None if (minutes := plan.sweep.budget.minutes) is None else 60 * minutes)
    opening = open_session(
        plan,
        url,
        take_over=take_over,
        retry_failed=retry_failed,
        extension=extension,
        reuse=reuse,
        asked_to_stop=stop.interrupt,
    )
    with stop_on_signals(stop, printer(console)), opening as session, can_go_on(RESUME):
        view = _begin_view(session, url, console, verbose=verbose)
        with mirroring(session, stop=stop, on_message=view.show_message) as mirror:
            with view:
                stats = EngineStats()
                try:
                    if session.ledger.num_open:
                        executor = InlineExecutor() if inline else _on_ray(address, variables)
                        stats = executor.run(session, stop=stop, watcher=view)
                finally:
                    ended = session.finish()
            lacking = _write_page(ended)
            notes = [*ended.notes, *lacking, *mirror.conclude(ended, with_report=not lacking, stop=stop)]
    faults = Console(stderr=True) if console.quiet else console
    _show_end(ended, plan, stats, notes, console, faults)
    return _conclude(url, ended.searches, stop, faults)


def _show_end(
    ended: SessionEnd, plan: Plan, stats: EngineStats, notes: Sequence[str], console: Console, faults: Console
) -> None:
    """Show the notes and the results; an error in showing them does not decide the exit code, as all is on disk."""
    for note in notes:
        faults.print(Text(f"note: {literal(note)}", style="yellow"), soft_wrap=True)
    try:
        _show_results(ended, plan, stats, console)
    except Exception as error:
        lacking = _lacking("the results cannot be shown", error, ended.run.files.url)
        faults.print(Text(literal(lacking)), soft_wrap=True)


def _begin_view(session: Session, url: str, console: Console, *, verbose: bool) -> LiveView:
    """The live view of a session, after the notes and what the session begins with."""
    plan, ledger = session.plan, session.ledger
    samples = {search.search_id: plan.samples[search.model, search.sample_id] for search in plan.searches}
    view = LiveView(console, ledger, samples=samples, verbose=verbose)
    for note in (*plan.notes, *session.notes):
        view.show_line(Text(f"note: {literal(note)}", style="yellow"))
    view.show_message(f"{plan.sweep.name}: {counted(ledger.num_searches, 'search')}, {ledger.num_open} open, in {url}")
    return view


def printer(console: Console) -> Callable[[str], None]:
    """Prints a message on a line of its own, just as it is."""
    return lambda line: console.print(literal(line), markup=False, highlight=False, soft_wrap=True)


def _write_page(ended: SessionEnd) -> list[str]:
    """Write the page of a run; returns a note if that is impossible: the results are on disk without it.

    Raises:
        LostLockError: when the session has lost the run; nothing is written then.
    """
    try:
        write_report(ended.run, ended.searches)
    except LostLockError:
        raise
    except Exception as error:
        return [_lacking(f"{REPORT_FILE} could not be written", error, ended.run.files.url)]
    return []


def _lacking(what: str, error: Exception, url: str) -> str:
    """One line about results that a user does not see because of an error."""
    line = f"{what} ({type(error).__name__}: {error}); `capsweep report {typed(url)}` tries again."
    return redact(line).replace("\n", " ")


def _on_ray(address: str | None, variables: Mapping[str, str]) -> Executor:
    from orchestrator.cluster.environment import set_variables

    set_variables(address)  # before Ray is imported
    from orchestrator.cluster.executor import RayExecutor

    return RayExecutor(address, variables)


def _show_results(ended: SessionEnd, plan: Plan, stats: EngineStats, console: Console) -> None:
    run, searches = ended.run, ended.searches
    console.print(searches_table(searches, plan.samples_table()))
    console.print(summary_table(capacity_by_group(searches)))
    if stats.slot_steps:
        steps = counted(stats.slot_steps, "optimizer step")
        console.print(
            f"engines: {steps} in {stats.step_seconds:.0f} s of engine time, {stats.slots_busy:.0%} of the slots busy",
            highlight=False,
        )
    console.print(f"report: {run.files.url}/{REPORT_FILE}", markup=False, highlight=False, soft_wrap=True)


def _conclude(url: str, searches: pa.Table, stop: Stop, console: Console) -> Exit:
    """Say how the session ended; returns the exit code, which follows from the searches alone."""
    statuses = searches["status"].to_pylist()
    if num_open := statuses.count("open"):
        why = "interrupted" if stop.interrupted else "the budget is spent" if stop.budget_spent else "ended early"
        them = "it" if num_open == 1 else "them"
        left = (
            f"{why}: {counted(num_open, 'search is', 'searches are')} open; "
            f"`capsweep resume {typed(url)}` continues {them}."
        )
        console.print(left, markup=False, highlight=False, soft_wrap=True)
        return Exit.INTERRUPTED if stop.interrupted else Exit.BUDGET_SPENT if stop.budget_spent else Exit.SOME_FAILED
    if num_failed := statuses.count("failed"):
        failed = (
            f"{counted(num_failed, 'search')} failed; `capsweep status {typed(url)}` shows why, "
            f"`capsweep resume {typed(url)} --retry-failed` tries {'it' if num_failed == 1 else 'them'} again."
        )
        console.print(failed, markup=False, highlight=False, soft_wrap=True)
        return Exit.SOME_FAILED
    return Exit.DONE
