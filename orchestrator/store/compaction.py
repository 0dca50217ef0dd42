"""Many small files of rows become one: a run of days leaves as many as it had moments at which probes finished.

Knows nothing of sessions, or of what rows mean.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from orchestrator.store.files import Files
from orchestrator.store.parquet import parse_table, unique_rows, write_rows
from orchestrator.store.probe_columns import PROBES

COMPACT_FILES = 100
"""Files that are worth merging; reading costs about 2 ms each, and a request on an object store."""
COMPACT_BYTES = 64 * 2**20
"""A file of half this size is left alone, and none grows far beyond it."""


def compact(files: Files, names: Sequence[str], session_id: str, *, may_write: Callable[[], None]) -> None:
    """Merge these files; the merged one is durable before the first of them is removed.

    Raises:
        OSError: when the merged file could not be written; those it was made of are there.
        DamagedFileError: when one cannot be read.
    """
    group: dict[str, bytes] = {}
    for first in range(0, len(names), COMPACT_FILES):
        for name, content in files.read_all(names[first : first + COMPACT_FILES]).items():
            if len(content) < COMPACT_BYTES // 2:
                group[name] = content
            if sum(map(len, group.values())) > COMPACT_BYTES:
                _merge(files, group, session_id, may_write)
                group = {}
    _merge(files, group, session_id, may_write)


def _merge(files: Files, group: dict[str, bytes], session_id: str, may_write: Callable[[], None]) -> None:
    if len(group) < 2:
        return
    tables = [parse_table(files, name, content, PROBES) for name, content in group.items()]
    rows = unique_rows(pa.concat_tables(tables)).cast(PROBES)
    merged = write_rows(files, session_id, rows, may_write=may_write)
    files.remove(*(name for name in group if name != merged))
