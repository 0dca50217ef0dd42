"""The copy of a run that is pushed: a run directory of a few files, with a card, in which only public words are.

Writes to a folder on this machine. Knows nothing of the hub.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from orchestrator.errors import BadInput, typed
from orchestrator.publishing.anonymous import Clean, public
from orchestrator.redact import secrets_in
from orchestrator.runs.directory import Run, open_run
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE
from orchestrator.spec.sweep_file import dump
from orchestrator.store.files import Files
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import SAMPLES_FILE, SEARCHES_FILE, read_measured, write_rows, write_table
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES

MOST_BYTES = 256 * 2**20
"""Size at which the rows go on in another file, in RAM; files are smaller."""
MEMORIES_FILE = "memories.safetensors"
MESSAGES = ("reason", "device")
"""Columns of probes with words of a machine."""


def write_copy(run: Run, folder: Path, *, without_texts: bool) -> Run:
    """Write the public copy of a run into an empty folder, without its card; returns the copy.

    Args:
        run: The run; a session may be writing to it.
        folder: Where the copy is written.
        without_texts: Leave out texts and token ids, and the memories, each of which gives its text back.

    Raises:
        BadInput: when the run does not say which sessions wrote it, or holds a secret of this environment.
    """
    if not run.provenance["sessions"]:
        raise BadInput(
            f"{run.files.url}/{PROVENANCE_FILE}: names no session, so a later push could not tell this run from "
            f"another. `capsweep resume {typed(run.files.url)}` writes it again."
        )
    words = public(run.sweep, run.provenance, without_texts=without_texts)
    files = LocalFiles(folder)
    files.write(SWEEP_FILE, dump(words.sweep).encode())
    files.write(PROVENANCE_FILE, json.dumps(words.provenance, indent=2).encode())
    write_table(files, SEARCHES_FILE, run.searches())  # as planned; a session may write rows meanwhile
    write_table(files, SAMPLES_FILE, _without_texts(run.samples()) if without_texts else run.samples())
    for name, table in read_measured(run.files).items():
        if table.num_rows:
            write_table(files, name, table)
    _write_rows(files, run.probes(PROBES.names), words.clean, without_texts=without_texts)
    copy = open_run(str(folder))
    write_table(files, SEARCHES_FILE, copy.searches())
    if not without_texts:
        _write_memories(copy)
    refuse_secrets(folder, copy)
    return copy


def _without_texts(samples: pa.Table) -> pa.Table:
    """The samples with empty texts; ids and hashes stay."""
    empty = {"text": "", "tokens": [], "token_ends": [], "context": None, "context_text": None, "first_change": None}
    return pa.Table.from_pylist([{**row, **empty} for row in samples.to_pylist()], schema=SAMPLES)


def _write_rows(files: Files, rows: pa.Table, clean: Clean, *, without_texts: bool) -> None:
    """Write the rows in their order, which makes equal files of a run that has not changed."""
    for name in MESSAGES:
        place = rows.column_names.index(name)
        cleaned = [None if value is None else clean(value) for value in rows[name].to_pylist()]
        rows = rows.set_column(place, PROBES.field(name), pa.array(cleaned, PROBES.field(name).type))
    if without_texts:
        place = rows.column_names.index("memory")
        rows = rows.set_column(place, PROBES.field("memory"), pa.nulls(len(rows), PROBES.field("memory").type))
    if not rows.num_rows:
        return
    session = max(rows["session_id"].to_pylist())
    together = max(1, rows.num_rows * MOST_BYTES // max(1, rows.nbytes))
    for first in range(0, rows.num_rows, together):
        write_rows(files, session, rows.slice(first, together))


def _write_memories(copy: Run) -> None:
    """Write the best memory of each search as safetensors, named by search_id."""
    from safetensors.numpy import save

    from orchestrator.analysis.memories import best_tensors

    copy.files.write(MEMORIES_FILE, save(best_tensors(copy), metadata={"dtype": "float32"}))


def refuse_secrets(folder: Path, copy: Run) -> None:
    """Raise BadInput if a file of the copy, or a string in its tables, holds the value of a secret variable."""
    secrets = secrets_in(os.environ)
    contents = {name: (folder / name).read_text() for name in (SWEEP_FILE, PROVENANCE_FILE)}
    words = [field.name for field in PROBES if pa.types.is_string(field.type)]
    tables = {"probes": copy.probes(words), SAMPLES_FILE: copy.samples(), SEARCHES_FILE: copy.searches()}
    told = [*contents.items(), *((name, "\n".join(_strings(table))) for name, table in tables.items())]
    found = [name for name, content in told if any(secret in content for secret in secrets)]
    if found:
        raise BadInput(
            f"{', '.join(found)}: would hold the value of a secret of this environment (a variable such as HF_TOKEN). "
            "Nothing was pushed. Take it out of the texts and of their names, or push --without-texts."
        )


def _strings(table: pa.Table) -> Iterator[str]:
    for field in table.schema:
        if pa.types.is_string(field.type):
            yield from (value for value in table[field.name].unique().to_pylist() if value is not None)
