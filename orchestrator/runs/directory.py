"""Reads a run on disk: its sweep, models, samples, probes and searches.

Writes nothing. Knows nothing of Ray or torch.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.redact import refuse_credentials
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.yaml_file import CONSTRUCTOR_ERRORS, parse_yaml
from orchestrator.store.files import Files, open_files
from orchestrator.store.lock import LOCK_FILE, STOP_FILE
from orchestrator.store.parquet import (
    BITS_FILE,
    LINES_FILE,
    PROBE_FOLDER,
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_probes,
    read_samples,
    read_searches,
)
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.searches import derive_searches
from tasks.values import Model, Text

SWEEP_FILE = "sweep.yaml"
PROVENANCE_FILE = "provenance.json"
EXTENDING_FILE = "extending.yaml"
"""Exists while an extension is written: until it is removed, tables may hold more than the sweep asks for."""
REPORT_FILE = "report/index.html"
DAMAGED_FOLDER = "damaged"
RUN_FOLDERS = (PROBE_FOLDER, "snapshots", DAMAGED_FOLDER, "report", "logs")
TABLE_FILES = (SAMPLES_FILE, SEARCHES_FILE, BITS_FILE, LINES_FILE)
RUN_NAMES = frozenset([SWEEP_FILE, PROVENANCE_FILE, EXTENDING_FILE, *TABLE_FILES, LOCK_FILE, STOP_FILE, *RUN_FOLDERS])
"""Every name that may be in a run directory."""
LIGHT_COLUMNS = [
    name for name in PROBES.names if name != "memory" and "_by_token" not in name and "_by_length" not in name
]
"""All columns of probes except memories and values per token or length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run on disk."""

    files: Files
    sweep: Sweep
    provenance: dict[str, Any]
    _samples: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def probes(self, columns: Sequence[str] = LIGHT_COLUMNS) -> pa.Table:
        """The rows of probes; by default without memories and values per token or length."""
        return read_probes(self.files, columns)

    def searches(self) -> pa.Table:
        """One row per search, derived from the rows of probes: correct even while a session writes."""
        return derive_searches(read_searches(self.files), self.probes(), self.sweep.search_settings())

    def samples(self) -> pa.Table:
        """The texts, one row per model and sample."""
        return read_samples(self.files)

    def sample(self, model: str, sample_id: str) -> dict[str, Any]:
        """One row of the samples table."""
        if not self._samples:
            self._samples.update({(row["model"], row["sample_id"]): row for row in self.samples().to_pylist()})
        return self._samples[model, sample_id]

    def model(self, name: str) -> Model:
        """The model named `name` in rows."""
        return Model(**self.provenance["models"][name]["model"])


def is_run(files: Files) -> bool:
    """Whether a session has begun a run here."""
    return files.exists(SWEEP_FILE)


def drawn_texts(url: str) -> dict[tuple[str, str], Text]:
    """The texts of the run at `url` by model and source; empty if there is no run yet or they cannot be read."""
    refuse_credentials(url)
    files = open_files(url)
    try:
        rows = read_samples(files).to_pylist() if is_run(files) else []
    except (FileNotFoundError, DamagedFileError):
        return {}
    return {
        (row["model"], row["source"]): Text(text=row["text"], source=row["source"], tokens=tuple(row["tokens"]))
        for row in rows
    }


def held_sweep(url: str) -> Sweep | None:
    """The sweep of the run at `url`; None where there is no run yet."""
    refuse_credentials(url)
    files = open_files(url)
    return read_sweep(files) if is_run(files) else None


def open_run(url: str) -> Run:
    """The run at a folder or URL.

    Raises:
        BadInput: when there is none, its URL holds credentials, or its sweep cannot be read.
    """
    refuse_credentials(url)
    files = open_files(url)
    if not is_run(files):
        raise BadInput(
            f"{url}: not a run directory (no {SWEEP_FILE} in it). "
            "Give the folder that `capsweep run` printed, such as runs/NAME-DATE-TIME."
        )
    return Run(files=files, sweep=read_sweep(files), provenance=read_provenance(files))


def read_sweep(files: Files) -> Sweep:
    """The sweep of a run, with every default written out.

    Raises:
        BadInput: when it cannot be read.
    """
    with _as_written(files, SWEEP_FILE):
        return Sweep.model_validate(parse_yaml(files.read(SWEEP_FILE).decode())[0])


def read_provenance(files: Files) -> dict[str, Any]:
    """What a run records about its models and sessions.

    Raises:
        BadInput: when it cannot be read.
    """
    with _as_written(files, PROVENANCE_FILE):
        return json.loads(files.read(PROVENANCE_FILE))


@contextmanager
def _as_written(files: Files, name: str) -> Iterator[None]:
    try:
        yield
    except (*CONSTRUCTOR_ERRORS, FileNotFoundError) as error:
        raise BadInput(
            f"{files.url}/{name}: cannot be read as this version writes it ({' '.join(str(error).split())[:200]}). "
            "Do not edit it: restore it, or begin a new run."
        ) from error
