"""The searches table of a session: derived from plan and rows at its start, while it runs, and at its end.

No file that was derived before is believed. Knows nothing of Ray, of torch, or of how rows come to be.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.runs.directory import LIGHT_COLUMNS
from orchestrator.store.held import HeldFiles
from orchestrator.store.parquet import (
    PROBE_FOLDER,
    SEARCHES_FILE,
    DamagedFileError,
    read_probes,
    read_searches,
    row_files,
    write_table,
)
from orchestrator.store.searches import derive_searches
from tasks.wording import counted

REFRESH_SECONDS = 5.0
"""Least time between two tables while a session runs."""
PAUSE_PER_SECOND = 20.0
"""Seconds of pause for each second that a table took: in a large run, tables take a twentieth of a processor."""


class DerivedSearches:
    """Keeps SEARCHES_FILE as plan and rows have it."""

    def __init__(self, plan: Plan, files: HeldFiles) -> None:
        self._planned = plan.searches_table()
        self._settings = plan.sweep.search_settings()
        self._files = files
        self._rows: dict[str, pa.Table] = {}
        """What was read of each file of rows: none is read twice."""
        self._table: pa.Table | None = None
        self._on_table: Callable[[pa.Table], object] = lambda table: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="searches table", daemon=True)

    def read_rows(self, *, damaged: list[DamagedFileError]) -> pa.Table:
        """The rows on disk, without memories; `damaged` takes the errors of files that cannot be read."""
        return read_probes(self._files, LIGHT_COLUMNS, damaged=damaged, known=self._rows)

    def refuse_lost(self, rows: pa.Table) -> None:
        """Compare the rows on disk with the table that an earlier session derived from them.

        Raises:
            BadInput: when there are none, and the table has probes of this plan: every one of them would run again.
        """
        try:
            before = read_searches(self._files)
        except DamagedFileError:
            return
        planned = set(self._planned["search_id"].to_pylist())
        numbers = (before[name].to_pylist() for name in ("search_id", "probes"))
        told = sum(probes or 0 for search_id, probes in zip(*numbers, strict=True) if search_id in planned)
        if told and not rows.num_rows:
            raise BadInput(
                f"{self._files.url}: no rows of probes; wanted those of the {counted(told, 'probe')} that "
                f"{SEARCHES_FILE} tells of. Put them back into {PROBE_FOLDER}/, or remove {SEARCHES_FILE} to measure "
                "all of them again."
            )

    def begin(self, rows: pa.Table) -> None:
        """Write the table of these rows unless it is on disk, and write it again whenever there are more."""
        table = derive_searches(self._planned, rows, self._settings)
        try:
            is_right = read_searches(self._files).equals(table)
        except DamagedFileError:
            is_right = False
        if not is_right:
            write_table(self._files, SEARCHES_FILE, table)
        self._table = table
        self._thread.start()

    def follow(self, on_table: Callable[[pa.Table], object]) -> None:
        """Call `on_table` with the table as it is, and with each one that is written while the session runs.

        It is called from another thread, and the next table waits for it.
        """
        assert self._table is not None, "begun"
        self._on_table = on_table
        on_table(self._table)

    def stop(self) -> None:
        """Write no further table by itself."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def finish(self, notes: list[str]) -> pa.Table:
        """The table of all rows on disk, which is written as well; `notes` takes what a user should know.

        Raises:
            LostLockError: when the session has lost the run.
            OSError: when the rows cannot be read.
        """
        self.stop()
        self._files.check()
        damaged: list[DamagedFileError] = []
        rows = self.read_rows(damaged=damaged)
        notes += [f"{found.name} is damaged ({found.damage}): `capsweep resume` sets it aside." for found in damaged]
        table = derive_searches(self._planned, rows, self._settings)
        try:
            write_table(self._files, SEARCHES_FILE, table)
        except OSError as error:
            notes.append(
                f"{SEARCHES_FILE} could not be written ({error.strerror or error}); `capsweep resume` derives it again."
            )
        return table

    def _keep_up(self) -> None:
        written = set(self._rows)
        pause = REFRESH_SECONDS
        while not self._stop.wait(pause):
            started = time.monotonic()
            # The next table, or the end of the session, meets the same fault and says so.
            with contextlib.suppress(Exception):
                if (names := set(row_files(self._files))) != written:
                    rows = self.read_rows(damaged=[])
                    table = derive_searches(self._planned, rows, self._settings)
                    write_table(self._files, SEARCHES_FILE, table)
                    written = names
                    self._on_table(table)
            pause = max(REFRESH_SECONDS, PAUSE_PER_SECOND * (time.monotonic() - started))
