"""Takes finished searches over from other runs: their rows with their memories, under the same ids.

The id of a search holds everything that decides its result, weights included, so equal ids mean equal questions. A
search is taken whole or not at all, and only if this run has no row of it.

Knows nothing of Ray or torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.redact import refuse_credentials
from orchestrator.runs.directory import SWEEP_FILE, is_run, read_provenance
from orchestrator.search.ledger import Ledger
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.parquet import read_probes, write_rows
from orchestrator.store.probe_columns import PROBES, VERDICT_COLUMNS, verdicts_of
from tasks.wording import counted

NOT_TAKEN = ("open", "failed")
"""Statuses of searches that are not finished: open, or given up because the machine failed."""
OF_THE_SEARCH = ("model", "model_revision", "sample_id", "text_sha256", "source", "seed", "recipe")
"""Columns that this run names in its own way: the same weights and tokens may have another name elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken over."""

    runs: tuple[Mapping[str, Any], ...]
    """For each run with something to take: its place, and how many searches and rows."""
    notes: tuple[str, ...]
    """What a user should know."""


def runs_to_reuse(urls: Sequence[str]) -> list[Files]:
    """The runs at these places: each is a run, or a folder that holds runs.

    Raises:
        BadInput: when one of them is neither, or a URL holds credentials.
    """
    found: dict[str, Files] = {}
    for url in urls:
        refuse_credentials(url)
        files = open_files(url)
        below = (
            [] if is_run(files) else [open_files(f"{url.rstrip('/')}/{name}") for name in files.names("", suffix="")]
        )
        runs = [files] if is_run(files) else [each for each in below if is_run(each)]
        if not runs:
            raise BadInput(
                f"--reuse {url}: neither a run nor a folder of runs (no {SWEEP_FILE} in it, nor in the folders "
                "directly in it). Give what `capsweep run` printed, or the folder that it lies in."
            )
        found |= {run.url.rstrip("/"): run for run in runs}
    return list(found.values())


def take_over_finished(
    plan: Plan, sources: Sequence[Files], files: HeldFiles, session_id: str, *, begun: Collection[str]
) -> Taken:
    """Copy the rows of finished searches of the plan from other runs into this one.

    A source that is damaged is named in a note, and nothing is taken from it.

    Args:
        plan: What this run does.
        sources: The other runs.
        files: This run.
        session_id: The session that writes.
        begun: Ids of searches that have rows here; they are not taken.
    """
    runs: list[Mapping[str, Any]] = []
    notes: list[str] = []
    wanted = {search.search_id for search in plan.searches} - set(begun)
    for source in sources:
        if source.url.rstrip("/") == files.url.rstrip("/"):
            continue
        try:
            rows = _finished_rows(plan, source, wanted)
        except BadInput as error:
            notes.append(f"nothing is taken over from {source.url}: {error}")
            continue
        searches = set(rows["search_id"].to_pylist())
        notes.append(f"{counted(len(searches), 'finished search', 'finished searches')} taken over from {source.url}.")
        if searches:
            write_rows(files, session_id, rows)
            runs.append({"run": source.url, "searches": len(searches), "rows": rows.num_rows})
            wanted -= searches
    return Taken(runs=tuple(runs), notes=tuple(notes))


def _finished_rows(plan: Plan, source: Files, wanted: Collection[str]) -> pa.Table:
    """Rows of PROBES of the wanted searches that are finished in `source`, named as this plan names them.

    Raises:
        BadInput: when the provenance or a row cannot be read, or a model is another one than the plan's.
    """
    verdicts = read_probes(source, VERDICT_COLUMNS)
    verdicts = verdicts.filter(pa.array([name in wanted for name in verdicts["search_id"].to_pylist()], pa.bool_()))
    known = set(verdicts["search_id"].to_pylist())
    searches = {search.search_id: search for search in plan.searches if search.search_id in known}
    ledger = Ledger(tuple(searches.values()), plan.sweep.search_settings(), verdicts_of(verdicts))
    finished = {name for name in searches if ledger.status(name) not in NOT_TAKEN}
    models = read_provenance(source)["models"]
    if not finished:
        return PROBES.empty_table()
    table = read_probes(source, PROBES.names)
    rows = [row for row in table.to_pylist() if row["search_id"] in finished]
    for called in sorted({(row["model"], searches[row["search_id"]].model) for row in rows}):
        _check_model(plan, source, models, *called)
    own = {name: asdict(plan.columns(search)) for name, search in searches.items()}
    named = [{**row, **{column: own[row["search_id"]][column] for column in OF_THE_SEARCH}} for row in rows]
    return pa.Table.from_pylist(named, schema=PROBES)


def _check_model(plan: Plan, source: Files, models: Mapping[str, Any], there: str, here: str) -> None:
    """Raise BadInput unless the model that rows call `there` has the weights of the plan's model `here`."""
    found = models.get(there, {}).get("facts", {}).get("fingerprint", "none")
    if found != (fingerprint := plan.model(here).facts.fingerprint):
        raise BadInput(f"its model {there} is another one (fingerprint {found[:16]} there, {fingerprint[:16]} here).")
