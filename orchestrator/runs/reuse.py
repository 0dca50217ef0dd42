"""Takes finished searches over from other runs: their rows with their memories, under the same ids.

The id of a search holds everything that decides its result, weights included, so equal ids mean equal questions. A
search is taken whole or not at all, and only if this run has no row of it.

Knows nothing of Ray or torch.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.redact import refuse_credentials
from orchestrator.runs.record import SWEEP_FILE, is_run, read_provenance
from orchestrator.search.ledger import Ledger
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.hub_files import is_on_hub, pinned
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
    """The runs at these places: each is a run, or a folder that holds runs; one on the hub, at the commit it has now.

    Raises:
        BadInput: when one of them is neither, or a URL holds credentials.
    """
    found: dict[str, Files] = {}
    for url in urls:
        refuse_credentials(url)
        files = open_files(pinned(url) if is_on_hub(url) else url)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedElsewhere:
    """What another run has finished of a plan."""

    url: str
    """The other run."""
    rows: pa.Table
    """Rows of PROBES, named as the plan names them; none if there is nothing to take."""
    notes: tuple[str, ...]

    @property
    def search_ids(self) -> set[str]:
        """The searches that are finished there."""
        return set(self.rows["search_id"].to_pylist())


def take_over_finished(
    plan: Plan, sources: Sequence[Files], files: HeldFiles, session_id: str, *, begun: Collection[str]
) -> Taken:
    """Copy the rows of finished searches of the plan from other runs into this one.

    Args:
        plan: What this run does.
        sources: The other runs.
        files: This run.
        session_id: The session that writes.
        begun: Ids of searches that have rows here; they are not taken.
    """
    runs: list[Mapping[str, Any]] = []
    notes: list[str] = []
    for found in finished_elsewhere(plan, sources, files, begun=begun):
        notes += found.notes
        if found.rows.num_rows:
            write_rows(files, session_id, found.rows)
            runs.append({"run": found.url, "searches": len(found.search_ids), "rows": found.rows.num_rows})
    return Taken(runs=tuple(runs), notes=tuple(notes))


def finished_elsewhere(
    plan: Plan, sources: Sequence[Files], files: Files, *, begun: Collection[str]
) -> Iterator[FinishedElsewhere]:
    """What each of the other runs has finished of the plan, no search twice; for the rest see `take_over_finished`.

    A source that is damaged is named in a note, and nothing is taken from it.
    """
    wanted = {search.search_id for search in plan.searches} - set(begun)
    for source in sources:
        if source.url.rstrip("/") == files.url.rstrip("/"):
            continue
        try:
            prints = _fingerprints(source)
            rows = _finished_rows(plan, source, prints, wanted)
        except (BadInput, OSError) as error:
            note = f"nothing is taken over from {source.url}: {error}"
            yield FinishedElsewhere(url=source.url, rows=PROBES.empty_table(), notes=(note,))
            continue
        searches = set(rows["search_id"].to_pylist())
        wanted -= searches
        count = f"{counted(len(searches), 'finished search', 'finished searches')} taken over from {source.url}."
        yield FinishedElsewhere(url=source.url, rows=rows, notes=(*_other_models(plan, source, prints), count))


def _fingerprints(source: Files) -> dict[str, str]:
    """Name of a model in the rows of a run -> its fingerprint; raises DamagedFileError if that cannot be read."""
    return {name: held["facts"]["fingerprint"] for name, held in read_provenance(source)["models"].items()}


def _other_models(plan: Plan, source: Files, prints: Mapping[str, str]) -> list[str]:
    """A note about each model that is called in `source` as one of the plan, and has other weights."""
    return [
        f"nothing is taken over from {source.url} for {model.name}: its model of that name is another one "
        f"(fingerprint {prints[model.name][:16]} there, {model.facts.fingerprint[:16]} here)."
        for model in plan.models
        if prints.get(model.name, model.facts.fingerprint) != model.facts.fingerprint
    ]


def _finished_rows(plan: Plan, source: Files, prints: Mapping[str, str], wanted: Collection[str]) -> pa.Table:
    """Rows of PROBES of the wanted searches that are finished in `source`, named as this plan names them.

    Raises:
        BadInput: when a row cannot be read.
    """
    verdicts = read_probes(source, (*VERDICT_COLUMNS, "model"))
    searches = {search.search_id: search for search in plan.searches if search.search_id in wanted}
    weights = {name: plan.model(search.model).facts.fingerprint for name, search in searches.items()}
    named = zip(verdicts["search_id"].to_pylist(), verdicts["model"].to_pylist(), strict=True)
    mine = [name in weights and prints.get(model) == weights[name] for name, model in named]
    verdicts = verdicts.filter(pa.array(mine, pa.bool_()))
    begun = set(verdicts["search_id"].to_pylist())
    ledger = Ledger([searches[name] for name in sorted(begun)], plan.sweep.search_settings(), verdicts_of(verdicts))
    finished = {name for name in begun if ledger.status(name) not in NOT_TAKEN}
    if not finished:
        return PROBES.empty_table()
    rows = read_probes(source, PROBES.names)
    rows = rows.filter(pa.array([name in finished for name in rows["search_id"].to_pylist()], pa.bool_()))
    own = {name: asdict(plan.columns(searches[name])) for name in finished}
    for column in OF_THE_SEARCH:
        field = PROBES.field(column)
        values = pa.array([own[name][column] for name in rows["search_id"].to_pylist()], field.type)
        rows = rows.set_column(PROBES.names.index(column), field, values)
    return rows
