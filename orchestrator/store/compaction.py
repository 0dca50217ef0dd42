"""Merges small files of rows: a run writes one each time probes finish, which over days makes many.

Knows nothing of sessions, or of what rows mean.
"""

from collections.abc import Sequence

import pyarrow as pa

from orchestrator.store.files import Files
from orchestrator.store.parquet import parse_table, unique_rows, write_rows
from orchestrator.store.probe_columns import PROBES

COMPACT_FILES = 100
"""Files after which a merge is worth it: reading one costs about 2 ms, or a request to an object store."""
COMPACT_BYTES = 64 * 2**20
"""Size at which a merged file is written; a file of half this size or more is not merged."""


def compact(files: Files, names: Sequence[str], session_id: str) -> None:
    """Merge these files; a merged file is durable before the files it replaces are removed.

    Raises:
        OSError: when a merged file could not be written; the files it was to replace are still there.
        DamagedFileError: when a file cannot be read.
    """
    group: dict[str, bytes] = {}
    for first in range(0, len(names), COMPACT_FILES):
        for name, content in files.read_all(names[first : first + COMPACT_FILES]).items():
            if len(content) < COMPACT_BYTES // 2:
                group[name] = content
            if sum(map(len, group.values())) > COMPACT_BYTES:
                _merge(files, group, session_id)
                group = {}
    _merge(files, group, session_id)


def _merge(files: Files, group: dict[str, bytes], session_id: str) -> None:
    if len(group) < 2:
        return
    tables = [parse_table(files, name, content, PROBES) for name, content in group.items()]
    rows = unique_rows(pa.concat_tables(tables)).cast(PROBES)
    merged = write_rows(files, session_id, rows)
    files.remove(*(name for name in group if name != merged))
