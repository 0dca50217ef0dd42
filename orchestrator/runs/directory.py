"""Reads a run on disk: its sweep, models, samples, probes and searches.

Writes nothing. Knows nothing of Ray or torch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.errors import BadInput, typed
from orchestrator.planning.held import held_samples
from orchestrator.planning.plan import Sample
from orchestrator.redact import refuse_credentials
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, is_run, read_provenance, read_sweep, read_sweep_file
from orchestrator.spec.sweep import Sweep
from orchestrator.store.claims import LOCK_FILE, SESSION_FOLDER
from orchestrator.store.files import Files, open_files
from orchestrator.store.hub_files import is_on_hub, read_only
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.lock import STOP_FILE
from orchestrator.store.parquet import (
    PROBE_FOLDER,
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_probes,
    read_samples,
    read_searches,
)
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import MEASURED
from orchestrator.store.searches import derive_searches
from orchestrator.store.snapshots import SNAPSHOT_FOLDER
from tasks.values import Model, Text
from tasks.wording import counted

EXTENDING_FILE = "extending.yaml"
"""Exists while an extension is written: until it is removed, tables may hold more than the sweep asks for."""
REPORT_FILE = "report/index.html"
PUBLISHED = "published"
"""Key in the provenance of a copy that was pushed to the hub."""
DAMAGED_FOLDER = "damaged"
TRACKING_FOLDER = "tracking"
"""What trackers keep here: which run of theirs is this one, which searches they have, files of their own."""
RUN_FOLDERS = (PROBE_FOLDER, SESSION_FOLDER, SNAPSHOT_FOLDER, DAMAGED_FOLDER, TRACKING_FOLDER, "report", "logs")
TABLE_FILES = (SAMPLES_FILE, SEARCHES_FILE, *MEASURED)
RUN_FILES = (SWEEP_FILE, PROVENANCE_FILE, EXTENDING_FILE, *TABLE_FILES, LOCK_FILE, STOP_FILE)
RUN_NAMES = frozenset([*RUN_FILES, *RUN_FOLDERS])
"""Every name that may be in a run directory."""
LIGHT_COLUMNS = [
    name for name in PROBES.names if name != "memory" and "_by_token" not in name and "_by_length" not in name
]
"""All columns of probes except memories and values per token or length."""


class RunTables(NamedTuple):
    """The tables of one run."""

    probes: pa.Table
    """One row per probe outcome."""
    searches: pa.Table
    """One row per search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run on disk."""

    files: Files
    sweep: Sweep
    provenance: dict[str, Any]
    """What the run records about its models and sessions; without either if the file is damaged."""
    notes: list[str] = field(default_factory=list)
    """What was found about files that this run can be shown without."""
    _samples: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def probes(self, columns: Sequence[str] = LIGHT_COLUMNS) -> pa.Table:
        """The rows of probes; by default without memories and values per token or length."""
        return read_probes(self.files, columns)

    def searches(self) -> pa.Table:
        """One row per search, derived from the rows of probes: correct even while a session writes.

        Raises:
            DamagedFileError: when the table on disk cannot be read, or is that of another plan.
        """
        planned, probes = read_searches(self.files), self.probes()
        measured = set(probes["search_id"].to_pylist())
        if measured and measured.isdisjoint(planned["search_id"].to_pylist()):
            raise DamagedFileError(self.files, SEARCHES_FILE, "it has none of the searches that were measured")
        if lost := measured - set(planned["search_id"].to_pylist()):
            self._note(
                f"{counted(len(lost), 'search', 'searches')} with rows on disk {'is' if len(lost) == 1 else 'are'} not "
                f"in {SEARCHES_FILE}, and not shown: `capsweep resume {typed(self.files.url)}` derives that table "
                "again, or says that the sweep does not ask for them."
            )
        return derive_searches(planned, probes, self.sweep.search_settings())

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def samples(self) -> pa.Table:
        """The texts, one row per model and sample."""
        return read_samples(self.files)

    def sample(self, model: str, sample_id: str) -> dict[str, Any]:
        """One row of the samples table.

        Raises:
            DamagedFileError: when the table cannot be read, or does not have it.
        """
        if not self._samples:
            self._samples.update({(row["model"], row["sample_id"]): row for row in self.samples().to_pylist()})
        if (model, sample_id) not in self._samples:
            raise DamagedFileError(self.files, SAMPLES_FILE, f"it does not have the text {sample_id} of {model}")
        return self._samples[model, sample_id]

    @property
    def is_published(self) -> bool:
        """Whether this is a copy that was pushed to the hub: it names local folders by their last name."""
        return PUBLISHED in self.provenance

    @property
    def is_without_texts(self) -> bool:
        """Whether its texts and memories were left out when it was pushed."""
        return bool(self.provenance.get(PUBLISHED, {}).get("without_texts"))

    def model(self, name: str) -> Model:
        """The model named `name` in rows; raises DamagedFileError when the run does not record it."""
        if name not in self.provenance["models"]:
            raise DamagedFileError(self.files, PROVENANCE_FILE, f"it does not have the model {name}")
        return Model(**self.provenance["models"][name]["model"])


def own_samples(files: Files) -> pa.Table:
    """The texts of a run, those of its searches among them.

    Raises:
        DamagedFileError: when the table cannot be read, or lacks one of these: it is that of another plan.
    """
    samples = read_samples(files)
    try:
        # Not the rows of probes, which may be gigabytes: this is asked before a session reads them.
        searched = set(_texts_in(read_searches(files)))
    except DamagedFileError:
        return samples
    if lost := sorted(searched - set(_texts_in(samples))):
        raise DamagedFileError(files, SAMPLES_FILE, f"it does not have the text {lost[0][1]} of {lost[0][0]}")
    return samples


def has_samples(files: Files, samples: pa.Table) -> bool:
    """Whether a run's table of samples is this one."""
    try:
        return read_samples(files).equals(samples)
    except DamagedFileError:
        return False


def _texts_in(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(model, sample_id) of each row."""
    return zip(table["model"].to_pylist(), table["sample_id"].to_pylist(), strict=True)


def samples_of(url: str) -> dict[str, list[Sample]]:
    """The samples of the run at `url` by model; empty if there is no run yet, or they cannot be read or relied on."""
    refuse_credentials(url)
    files = open_files(url)
    try:
        # During an extension, there may be samples that the sweep does not ask for.
        is_settled = is_run(files) and not files.exists(EXTENDING_FILE)
        return held_samples(own_samples(files).to_pylist()) if is_settled else {}
    except DamagedFileError:
        return {}


def drawn_texts(url: str) -> dict[tuple[str, str], Text]:
    """The texts of the run at `url` by model and source; empty if there is no run yet or they cannot be read."""
    refuse_credentials(url)
    files = open_files(url)
    try:
        rows = own_samples(files).to_pylist() if is_run(files) else []
    except DamagedFileError:
        return {}
    return {
        (row["model"], row["source"]): Text(source=row["source"], text=text, tokens=tokens)
        for row in rows
        for text, tokens in [_whole(row)]
    }


def _whole(row: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """The text and tokens that a row of SAMPLES was made of, its context included."""
    text, tokens, context = row["text"], tuple(row["tokens"]), tuple(row["context"] or ())
    if context[: len(tokens)] == tokens:  # the context is the text itself
        return row["context_text"], context
    return (row["context_text"] or "") + text, (*context, *tokens)


def held_sweep(url: str) -> Sweep | None:
    """The sweep of the run at `url`; None where there is no run yet, or its sweep cannot be read.

    Raises:
        BadInput: when no run can be made there, because the URL holds credentials or names a place on the hub.
    """
    refuse_credentials(url)
    if is_on_hub(url):
        raise BadInput(read_only(url))
    files = open_files(url)
    try:
        return read_sweep(files) if is_run(files) else None
    except DamagedFileError:
        return None


def open_run(url: str, *, to_write: bool = False) -> Run:
    """The run at a folder or URL; `to_write`: what will be computed is written into it.

    Raises:
        BadInput: when there is none, its URL holds credentials, its sweep cannot be read, or it cannot be written to
            because it is on the hub.
    """
    refuse_credentials(url)
    if to_write and (why := why_not_written(url)) is not None:
        raise BadInput(why)
    return run_in(open_files(url))


def why_not_written(url: str) -> str | None:
    """Why a run cannot be written to, as far as that shows before: it is on the hub, or in a folder of others."""
    if is_on_hub(url):
        return read_only(url)
    files = open_files(url)
    if not isinstance(files, LocalFiles) or not os.path.isdir(files.url) or os.access(files.url, os.W_OK):
        return None
    return f"{url}: you may not write to this run. Copy its folder, and work on the copy."


def check_is_run(files: Files) -> None:
    """Raise BadInput unless these are the files of a run."""
    if not is_run(files):
        raise BadInput(
            f"{files.url}: not a run directory (no {SWEEP_FILE} in it). "
            "Give the folder that `capsweep run` printed, such as runs/NAME-DATE-TIME."
        )


def run_in(files: Files) -> Run:
    """The run of these files.

    Raises:
        BadInput: when there is none, or its sweep cannot be read.
    """
    check_is_run(files)
    run = Run(files=files, sweep=read_sweep(files), provenance={"models": {}, "sessions": []})
    try:
        read_sweep_file(files)
    except DamagedFileError as error:
        run.notes.append(str(error))
    try:
        run.provenance.update(read_provenance(files))
    except DamagedFileError as error:
        run.notes.append(str(error))
    return run
