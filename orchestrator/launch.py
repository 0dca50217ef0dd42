"""Run a sweep from its plan to its report, in process or on Ray.

Defines the order of the steps; other modules carry them out.
"""

from collections.abc import Callable
from datetime import datetime
from enum import IntEnum

from rich.console import Console

from orchestrator.errors import BadInput, literal
from orchestrator.execution.executor import Executor
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop, stop_on_signals
from orchestrator.planning.plan import Plan
from orchestrator.report.live import LiveView
from orchestrator.report.tables import capacity_by_group
from orchestrator.report.terminal import searches_table, summary_table
from orchestrator.report.writing import write_report
from orchestrator.runs.directory import REPORT_FILE
from orchestrator.runs.extension import Extension
from orchestrator.runs.session import SessionEnd, open_session
from orchestrator.spec.sweep import Sweep
from tasks.values import EngineStats


class Exit(IntEnum):
    """Exit codes of `run` and `resume`."""

    DONE = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    BUDGET_SPENT = 3
    INTERRUPTED = 130


def new_run_url(sweep: Sweep) -> str:
    """`<storage>/<name>-<date>-<time>`."""
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
) -> Exit:
    """Run the plan's open searches in the run at `url`, show the results and write the report.

    `extension` is what the plan adds to an existing run.

    Raises:
        BadInput: when the run directory cannot be used; nothing has been written.
    """
    budget = plan.sweep.budget.minutes
    stop = Stop(budget_seconds=None if budget is None else 60 * budget)
    opening = open_session(
        plan,
        url,
        take_over=take_over,
        retry_failed=retry_failed,
        extension=extension,
        asked_to_stop=stop.interrupt,
    )
    with stop_on_signals(stop, _printer(console)), opening as session:
        for note in (*plan.notes, *session.notes):
            console.print(f"note: {literal(note)}", style="yellow", markup=False, highlight=False)
        console.print(
            f"{plan.sweep.name}: {session.ledger.num_searches} searches, {session.ledger.num_open} open, in {url}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        samples = {search.search_id: plan.samples[search.model, search.sample_id] for search in plan.searches}
        with LiveView(console, session.ledger, samples=samples) as view:
            try:
                stats = EngineStats()
                if session.ledger.num_open:
                    stats = _executor(inline=inline, address=address).run(session, stop=stop, watcher=view)
            finally:
                ended = session.finish()
        notes = [*ended.notes, *_write_page(ended)]
    for note in notes:
        console.print(f"note: {literal(note)}", style="yellow", markup=False, highlight=False)
    return _conclude(ended, plan, stats, stop, console)


def _printer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write_page(ended: SessionEnd) -> list[str]:
    """Write the page of a run; returns a note if that is impossible: the results are on disk without it."""
    try:
        write_report(ended.run, ended.searches)
    except (OSError, BadInput) as error:
        return [f"{REPORT_FILE} could not be written ({error}); `capsweep report {ended.run.files.url}` tries again."]
    return []


def _executor(*, inline: bool, address: str | None) -> Executor:
    if inline:
        return InlineExecutor()
    from orchestrator.cluster.environment import set_variables

    set_variables(address)  # before Ray is imported
    from orchestrator.cluster.executor import RayExecutor

    return RayExecutor(address)


def _conclude(ended: SessionEnd, plan: Plan, stats: EngineStats, stop: Stop, console: Console) -> Exit:
    """Show the results and how the session ended."""
    run, searches = ended.run, ended.searches
    statuses = searches["status"].to_pylist()
    console.print(searches_table(searches, plan.samples_table()))
    console.print(summary_table(capacity_by_group(searches)))
    if stats.slot_steps:
        console.print(
            f"engines: {stats.slot_steps:,} optimizer steps in {stats.step_seconds:.0f} s of engine time, "
            f"{stats.slots_busy:.0%} of the slots busy",
            highlight=False,
        )
    console.print(f"report: {run.files.url}/{REPORT_FILE}", markup=False, highlight=False, soft_wrap=True)
    num_open, num_failed = statuses.count("open"), statuses.count("failed")
    resume = f"`capsweep resume {run.files.url}` continues them."
    if num_open:
        why = "interrupted" if stop.interrupted else "the budget is spent" if stop.budget_spent else "ended early"
        console.print(f"{why}: {num_open} searches are open; {resume}", markup=False, highlight=False, soft_wrap=True)
        return Exit.INTERRUPTED if stop.interrupted else Exit.BUDGET_SPENT if stop.budget_spent else Exit.SOME_FAILED
    if num_failed:
        failed = (
            f"{num_failed} searches failed; `capsweep status {run.files.url}` shows why, "
            f"`capsweep resume {run.files.url} --retry-failed` tries them again."
        )
        console.print(failed, markup=False, highlight=False, soft_wrap=True)
        return Exit.SOME_FAILED
    return Exit.DONE
