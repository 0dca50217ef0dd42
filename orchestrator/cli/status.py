"""What `capsweep status` shows: results so far, who writes, why searches failed."""

import time
from collections import Counter

from rich.console import Console

from orchestrator.errors import literal
from orchestrator.report.tables import capacity_by_group
from orchestrator.report.terminal import searches_table, summary_table
from orchestrator.runs.directory import Run
from orchestrator.store.claims import read_holder
from orchestrator.store.holder import writer_of


def show_status(run: Run, *, limit: int) -> None:
    """Print the run's tables as they stand on disk."""
    console = Console()
    searches = run.searches()
    console.print(searches_table(searches, run.samples(), limit))
    console.print(summary_table(capacity_by_group(searches)))
    writer = writer_of(read_holder(run.files), time.time())
    counts = Counter(searches["status"].to_pylist())
    statuses = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    writes = f"{writer} writes" if writer else "no session writes"
    console.print(f"{run.files.url}: {statuses}; {writes}", markup=False, highlight=False, soft_wrap=True)
    failed = run.probes(("probe_id", "attempt", "source", "outcome", "reason")).to_pylist()
    for note in run.notes:
        console.print(f"note: {literal(note)}", markup=False, highlight=False, soft_wrap=True)
    for row in [row for row in failed if row["outcome"] == "failed"][:limit]:
        message = literal(f"failed: {row['source']}: {row['reason']}")
        console.print(message, markup=False, highlight=False, soft_wrap=True)
