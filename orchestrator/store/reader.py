"""Reading a run's tables.

Knows nothing of Ray, torch or of how rows came to be.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import BadInput
from orchestrator.store.files import Files, open_files
from orchestrator.store.schema import PROBES, SAMPLES, SEARCHES

PROBE_FOLDER = "probes"
SEARCHES_FILE = "searches.parquet"
SAMPLES_FILE = "samples.parquet"


class RunTables(NamedTuple):
    """The tables of one run."""

    probes: pa.Table
    """One row per probe outcome."""
    searches: pa.Table
    """One row per search."""


def read(run: str) -> RunTables:
    """The tables of a run directory or URL, as Arrow.

    Raises:
        BadInput: when this is not a run, or a file of it cannot be read.
    """
    files = open_files(str(run))
    if not files.exists(SAMPLES_FILE):
        raise BadInput(f"{run}: not a run directory (no {SAMPLES_FILE} in it). Give the folder that `run` printed.")
    return RunTables(read_probes(files), read_searches(files))


def read_probes(files: Files, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows, one for each (probe_id, attempt), whatever the number of times it was written.

    Raises:
        BadInput: when a file cannot be read.
    """
    wanted = PROBES if columns is None else pa.schema([PROBES.field(name) for name in columns])
    keyed = pa.unify_schemas([wanted, pa.schema([PROBES.field(name) for name in ("probe_id", "attempt", "outcome")])])
    tables = [_read_table(files, name, keyed) for name in files.names(PROBE_FOLDER, suffix=".parquet")]
    rows = pa.concat_tables([keyed.empty_table(), *tables])
    # Rows of one (probe_id, attempt) differ in nothing but the file they came in, unless the machine was taken to have
    # failed before the verdict came: then the verdict counts.
    with duckdb.connect() as database:
        database.register("rows", rows)
        once = (
            "select * from rows qualify "
            "row_number() over (partition by probe_id, attempt order by outcome = 'failed') = 1"
        )
        unique = database.sql(once)
        assert unique is not None, "a select gives a relation"
        return unique.to_arrow_table().select(wanted.names).cast(wanted)


def read_searches(files: Files) -> pa.Table:
    """One row per search, as last derived; empty before the first session ended."""
    return _read_table(files, SEARCHES_FILE, SEARCHES) if files.exists(SEARCHES_FILE) else SEARCHES.empty_table()


def read_samples(files: Files) -> pa.Table:
    """The texts of a run."""
    return _read_table(files, SAMPLES_FILE, SAMPLES)


def _read_table(files: Files, name: str, schema: pa.Schema) -> pa.Table:
    try:
        # One thread: Arrow's pool aborts a process that ends soon after a read (apache/arrow issues 33975, 50482).
        table = pq.read_table(pa.BufferReader(files.read(name)), columns=schema.names, use_threads=False)
        return table.cast(schema)
    except (pa.ArrowException, KeyError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise BadInput(
            f"{files.url}/{name}: cannot be read as a table of this version ({said}). "
            "Move the file away and resume: what it held runs again."
        ) from error


def write_table(files: Files, name: str, table: pa.Table) -> None:
    """One Parquet file, durable when this returns."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    files.write(name, sink.getvalue())
