"""What the live page shows: a run, several together, or the list of the runs in a folder.

Reads files and writes none. Knows nothing of HTTP, threads or the clock.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.report.tables import UNFINISHED
from orchestrator.report.writing import names_of, page_of, report_tables, together
from orchestrator.runs.directory import Run, run_in
from orchestrator.runs.listing import list_runs
from orchestrator.runs.record import PROVENANCE_FILE
from orchestrator.store.claims import read_holder
from orchestrator.store.files import open_files
from orchestrator.store.holder import writer_of
from orchestrator.store.parquet import SEARCHES_FILE, row_files
from orchestrator.store.read_only import ReadOnlyFiles
from orchestrator.store.schema import MEASURED
from orchestrator.watching.runs_page import render_runs, runs_in_words
from tasks.wording import counted

WATCHED = (PROVENANCE_FILE, SEARCHES_FILE, *MEASURED)
"""Files whose content is compared; of files of rows the names are, as those hold the hash of the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as it was built."""

    html: str
    summary: str
    """What it shows, in a line."""


class View(Protocol):
    """One thing to look at."""

    def fingerprint(self) -> Hashable:
        """What the page depends on: the page is built anew only if this has changed."""
        ...

    def build(self) -> Page:
        """The page of what is on disk now.

        Raises:
            BadInput: when files are missing or damaged.
            OSError: when the storage does not answer.
        """
        ...

    def writers(self) -> str:
        """Who writes now, in words; empty where the page itself says it."""
        ...


class RunsView:
    """The report of one run, or one report of several."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._files = [ReadOnlyFiles(open_files(url)) for url in urls]

    def fingerprint(self) -> Hashable:
        """Names of the files of rows, and hashes of the files that change."""
        return tuple(
            (*row_files(files), *((name, hashlib.sha256(found).digest()) for name, found in contents.items()))
            for files in self._files
            for contents in [files.read_all(WATCHED)]
        )

    def build(self) -> Page:
        """The page that `capsweep report` writes of these runs."""
        runs = [run_in(files) for files in self._files]
        read = [(name, report_tables(run)) for name, run in zip(names_of(runs), runs, strict=True)]
        tables = read[0][1] if len(read) == 1 else together(read)
        statuses = Counter(tables.searches["status"].to_pylist())
        done = sum(count for status, count in statuses.items() if status not in UNFINISHED)
        failed = f", {statuses['failed']} failed" if statuses["failed"] else ""
        notes = [f"note: {note}" for note in _notes(runs)]
        words = [
            f"{done} of {counted(tables.searches.num_rows, 'search', 'searches')} done{failed}",
            counted(tables.probes.num_rows, "probe"),
            *notes,
        ]
        return Page(html=page_of(runs, tables), summary=" · ".join(words))

    def writers(self) -> str:
        """The processes that write to these runs."""
        found = [writer_of(read_holder(files), time.time()) for files in self._files]
        writers = list(dict.fromkeys(filter(None, found)))
        return f"{' and '.join(writers)} {'write' if len(writers) > 1 else 'writes'}" if writers else "nobody writes"


def _notes(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(note for run in runs for note in run.notes))


class ListView:
    """The runs in a folder, with their capacities side by side."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._page = Page(html="", summary="")

    def fingerprint(self) -> Hashable:
        """The page itself: it takes no longer than to find out what it depends on."""
        listing = list_runs(self._url)
        self._page = Page(html=render_runs(listing, self._url), summary=runs_in_words(listing))
        return self._page.html

    def build(self) -> Page:
        """The page of the last fingerprint."""
        return self._page

    def writers(self) -> str:
        """Nothing: each run in the list says who writes to it."""
        return ""
