"""What a session would find in its run and have to do: the plan against the rows on disk, here and in other runs.

Writes nothing and takes no lock. Knows nothing of Ray or torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.planning.plan import Plan
from orchestrator.redact import refuse_credentials
from orchestrator.runs.extension import Extension
from orchestrator.runs.resumable import check_same_run
from orchestrator.runs.reuse import finished_elsewhere, runs_to_reuse
from orchestrator.search.ledger import Ledger, Search
from orchestrator.store.files import open_files
from orchestrator.store.parquet import read_probes
from orchestrator.store.probe_columns import VERDICT_COLUMNS, verdicts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The searches of a plan as a session would begin with them."""

    done: int
    """Searches that are done in the run."""
    taken: int
    """Searches that would be taken over from other runs."""
    left: tuple[Search, ...]
    """Searches that would run, begun or not."""
    notes: tuple[str, ...]
    """What a user should know about the other runs."""


def preview(plan: Plan, url: str, *, extension: Extension | None = None, reuse: Sequence[str] = ()) -> Preview:
    """What a session of the plan in the run at `url` would do; arguments as those of `open_session`.

    Raises:
        BadInput: when the folder holds something else, or the inputs have changed, as for the session.
    """
    refuse_credentials(url)
    files = open_files(url)
    check_same_run(plan if extension is None else extension.held, files)
    sources = runs_to_reuse(reuse)
    rows = read_probes(files, VERDICT_COLUMNS, damaged=[])
    begun = set(rows["search_id"].to_pylist())
    elsewhere = list(finished_elsewhere(plan, sources, files, begun=begun))
    taken = {search_id for found in elsewhere for search_id in found.search_ids}
    ledger = Ledger(plan.searches, plan.sweep.search_settings(), verdicts_of(rows))
    left = [one for one in plan.searches if one.search_id not in taken and ledger.status(one.search_id) == "open"]
    return Preview(
        done=len(plan.searches) - len(taken) - len(left),
        taken=len(taken),
        left=tuple(left),
        notes=tuple(note for found in elsewhere for note in found.notes),
    )
