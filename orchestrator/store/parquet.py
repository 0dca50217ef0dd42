"""Reads and writes the tables of a run as Parquet files.

Damage to a file is detected: in files of rows by the hash in their name, in other tables by page checksums. Knows
nothing of Ray, torch or of how rows are made.
"""

import hashlib
import io
import re
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import BadInput, typed
from orchestrator.store.files import Files
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import MEASURED, SAMPLES, SCHEMA_VERSION, SEARCHES

PROBE_FOLDER = "probes"
SEARCHES_FILE = "searches.parquet"
SAMPLES_FILE = "samples.parquet"
HASH_IN_NAME = re.compile(r"-([0-9a-f]{16})\.parquet$")
VERSION_KEY = b"capsweep_schema_version"
READ_TOGETHER = 256
"""Files whose bytes are held at a time, and requested from an object store at once."""
MOST_UNPACKED = 2**30
"""Most bytes to which a file may unpack; larger ones are believed only if they are hardly smaller on disk."""
HARDLY_SMALLER = 8
"""Unpacked over packed size of a file that holds mostly memories is about 1.1, of one with token ids about 3."""
MOST_LISTINGS = 5
"""Attempts at reading while a session merges files, which removes them; merges are rare."""


class DamagedFileError(BadInput):
    """The content of a run's file is not what was written."""

    def __init__(
        self, files: Files, name: str, damage: str, *, absent: bool = False, remedy: str | None = None
    ) -> None:
        """`absent`: whether there is no such file; `remedy`: what to do, by default to resume the run."""
        again = "writes it again" if absent else "sets it aside and computes again what it held"
        super().__init__(
            f"{files.url}/{name}: damaged ({damage}). {remedy or f'`capsweep resume {typed(files.url)}` {again}.'}"
        )
        self.name = name
        self.damage = damage
        self.absent = absent


def read_probes(
    files: Files,
    columns: Sequence[str] | None = None,
    *,
    damaged: list[DamagedFileError] | None = None,
    known: dict[str, pa.Table] | None = None,
) -> pa.Table:
    """All rows without duplicates: one for each (probe_id, attempt), and one verdict per probe.

    Args:
        files: The run.
        columns: The columns to read; all of PROBES if None.
        damaged: A list that takes the errors of files that cannot be read, whose rows are then left out.
        known: What earlier calls with the same columns read, by file, which is not read again; this call updates it.

    Raises:
        DamagedFileError: when a file cannot be read and `damaged` is None.
        BadInput: when a version wrote a file that this one does not read.
        OSError: when files vanished during every attempt to read them.
    """
    wanted = PROBES if columns is None else pa.schema([PROBES.field(name) for name in columns])
    keys = pa.schema([PROBES.field(name) for name in ("probe_id", "attempt", "outcome", "session_id")])
    keyed = pa.unify_schemas([wanted, keys])
    known = {} if known is None else known
    missing: set[str] = set()
    for _ in range(MOST_LISTINGS):
        names = row_files(files)
        for gone in known.keys() - set(names):
            del known[gone]
        absent, found = _read_fresh(files, [name for name in names if name not in known], keyed, known)
        # A file that is merged vanishes from the next listing; a link to nothing, a folder or a pipe stays.
        unread, missing = missing & absent, absent
        found += [DamagedFileError(files, name, "not a file, or it cannot be found") for name in sorted(unread)]
        if absent == unread:
            if damaged is None and found:
                raise found[0]
            if damaged is not None:
                damaged += found
            rows = pa.concat_tables([keyed.empty_table(), *known.values()])
            return unique_rows(rows).select(wanted.names).cast(wanted)
    raise OSError(f"{files.url}/{PROBE_FOLDER}: files vanished while they were read, {MOST_LISTINGS} times. Try again.")


def _read_fresh(
    files: Files, names: Sequence[str], schema: pa.Schema, known: dict[str, pa.Table]
) -> tuple[set[str], list[DamagedFileError]]:
    """Read these files into `known`; returns those that are not there, and the errors of those that are damaged."""
    absent, found = set(names), list[DamagedFileError]()
    for first in range(0, len(names), READ_TOGETHER):
        contents = files.read_all(names[first : first + READ_TOGETHER])
        absent -= contents.keys()
        for name, content in contents.items():
            try:
                known[name] = parse_table(files, name, content, schema)
            except DamagedFileError as error:
                found.append(error)
    return absent, found


def row_files(files: Files) -> list[str]:
    """Names of all files of rows."""
    return files.names(PROBE_FOLDER, suffix=".parquet")


def unique_rows(rows: pa.Table) -> pa.Table:
    """One row for each (probe_id, attempt), and one verdict per probe: of several, the latest session's.

    A session that was taken over may have written a row that the next session wrote as well. A probe may have been
    counted as failed before its verdict arrived: then the verdict counts.
    """
    if len(set(rows["probe_id"].to_pylist())) == rows.num_rows:
        return rows  # the usual case, without the 40 ms of a query
    with duckdb.connect() as database:
        database.register("rows", rows)
        once = (
            "select * from rows qualify "
            "row_number() over (partition by probe_id, attempt order by outcome = 'failed', session_id desc) = 1 "
            "and (outcome = 'failed' or "
            "row_number() over (partition by probe_id, outcome = 'failed' order by session_id desc) = 1)"
        )
        unique = database.sql(once)
        assert unique is not None, "a select gives a relation"
        return unique.to_arrow_table()


def read_searches(files: Files) -> pa.Table:
    """One row per search, as last derived."""
    return read_table(files, SEARCHES_FILE, SEARCHES)


def read_samples(files: Files) -> pa.Table:
    """The texts of a run."""
    return read_table(files, SAMPLES_FILE, SAMPLES)


def read_measured(files: Files, *, damaged: list[DamagedFileError] | None = None) -> dict[str, pa.Table]:
    """The tables of MEASURED by file; empty where `capsweep measure` has not written them.

    Args:
        files: The run.
        damaged: A list that takes the errors of tables that cannot be read, which are then empty.

    Raises:
        DamagedFileError: when one cannot be read and `damaged` is None.
    """
    tables: dict[str, pa.Table] = {}
    for name, schema in MEASURED.items():
        try:
            tables[name] = read_table(files, name, schema)
        except DamagedFileError as error:
            if not error.absent:
                if damaged is None:
                    raise
                damaged.append(error)
            tables[name] = schema.empty_table()
    return tables


def read_table(files: Files, name: str, schema: pa.Schema) -> pa.Table:
    """The table in a file.

    Raises:
        DamagedFileError: when the content is not what was written, or there is no such file.
    """
    return parse_table(files, name, read_whole(files, name), schema)


def read_whole(files: Files, name: str) -> bytes:
    """The content of a file that the run must have; raises DamagedFileError when there is none of this name."""
    try:
        return files.read(name)
    except FileNotFoundError as error:
        raise DamagedFileError(files, name, "there is no such file", absent=True) from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise DamagedFileError(files, name, "no file, but a folder, has this name or that of its folder") from error


def parse_table(files: Files, name: str, content: bytes, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` from the bytes of a file; columns that an earlier version did not have are null.

    Raises:
        DamagedFileError: when the content is not what was written.
        BadInput: when a version wrote the file that this one does not read.
    """
    if not is_whole(name, content):
        raise DamagedFileError(files, name, f"{len(content):,} bytes that do not hash to its name")
    try:
        # One thread: Arrow's pool can abort a process that ends soon after a read (apache/arrow issues 33975, 50482).
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            version = int((file.schema_arrow.metadata or {}).get(VERSION_KEY, b"0"))
            known = set(file.schema_arrow.names)
            table = _unpacked(file, pa.schema([field for field in schema if field.name in known]), len(content))
        missing = [field for field in schema if field.name not in known]
        if not 1 <= version <= SCHEMA_VERSION:
            raise BadInput(
                f"{files.url}/{name}: written by another version of capsweep (schema {version}, this one reads "
                f"1 to {SCHEMA_VERSION}). Read this run with the version that wrote it."
            )
        if missing and version == SCHEMA_VERSION:
            raise DamagedFileError(files, name, f"no column {missing[0].name}")
        for field in missing:
            table = table.append_column(field, pa.nulls(len(table), field.type))
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFileError(files, name, str(error).splitlines()[0]) from error


def _unpacked(file: pq.ParquetFile, wanted: pa.Schema, size: int) -> pa.Table:
    """The columns of `wanted` from a file of `size` bytes; raises ValueError if they would take all RAM."""
    most = max(MOST_UNPACKED, HARDLY_SMALLER * size)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    stated = sum(max(chunk.total_uncompressed_size, 4 * chunk.num_values) for chunk in chunks)
    # Every row may hold the longest value of its column, which the file stores once: few rows at a time, if need be.
    rows = max(1, most // max(1, stated))
    parts = [wanted.empty_table()]
    unpacked = 0
    for batch in file.iter_batches(rows, columns=wanted.names, use_threads=False) if stated <= most else ():
        parts.append(pa.Table.from_batches([batch]).select(wanted.names).cast(wanted))
        unpacked += parts[-1].nbytes
        if unpacked > most:
            break
    if max(stated, unpacked) > most:
        raise ValueError(f"it unpacks to more than {most >> 20:,} MiB")
    return pa.concat_tables(parts)


def write_table(files: Files, name: str, table: pa.Table) -> None:
    """Write one Parquet file, durable when this returns."""
    files.write(name, _to_parquet(table))


def write_rows(files: Files, session_id: str, rows: pa.Table) -> str:
    """Write one file of rows, durable when this returns; returns its name, which has the hash of its content."""
    content = _to_parquet(rows)
    name = f"{PROBE_FOLDER}/{session_id}-{_hash(content)}.parquet"
    files.write(name, content)
    return name


def _to_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    versioned = table.replace_schema_metadata({VERSION_KEY: str(SCHEMA_VERSION)})
    pq.write_table(versioned, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def is_whole(name: str, content: bytes) -> bool:
    """Whether a file with a hash in its name has the content that was written; True for other files."""
    hashed = HASH_IN_NAME.search(name)
    return hashed is None or _hash(content) == hashed[1]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
