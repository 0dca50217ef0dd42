"""One session of a run: it holds the lock, folds the rows on disk into a ledger, and records new rows.

All executors share it, in process or on Ray. Knows nothing of Ray or torch.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.redact import refuse_credentials
from orchestrator.runs.directory import (
    DAMAGED_FOLDER,
    EXTENDING_FILE,
    LIGHT_COLUMNS,
    PROVENANCE_FILE,
    SWEEP_FILE,
    read_provenance,
    read_sweep,
)
from orchestrator.runs.extension import Extension
from orchestrator.runs.provenance import with_end, with_session
from orchestrator.runs.resumable import check_same_run
from orchestrator.search.ledger import Ledger, Order
from orchestrator.search.policy import SearchSettings
from orchestrator.spec.sweep_file import dump
from orchestrator.store.compaction import COMPACT_FILES, compact
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.lock import RunLock
from orchestrator.store.parquet import (
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_probes,
    read_samples,
    read_searches,
    row_files,
    write_table,
)
from orchestrator.store.probe_columns import VERDICT_COLUMNS, RowContext, verdicts_of
from orchestrator.store.recorder import Recorder
from orchestrator.store.searches import derive_searches, with_known
from orchestrator.store.snapshots import remove_snapshots
from tasks.values import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run that this process may write to."""

    plan: Plan
    files: Files
    """The run; every change is refused once another session has taken it over."""
    session_id: str
    ledger: Ledger
    context: RowContext
    """What is the same in every row of this session."""
    notes: tuple[str, ...] = ()
    """What was found in the run directory that a user should know."""

    def recorder(self) -> Recorder:
        """The one writer of rows; no other recorder of this run may be in use."""
        return new_recorder(self.files.url, self.context)

    def finish(self) -> None:
        """Derive the searches table from all rows on disk, and note when the session ended.

        Raises:
            LostLockError: when another session has taken the run over; nothing is written then.
        """
        write_searches(self.files, self.plan.sweep.search_settings())
        ended = with_end(read_provenance(self.files), self.session_id, datetime.now(UTC))
        self.files.write(PROVENANCE_FILE, json.dumps(ended, indent=2).encode())
        if self.ledger.num_open == 0:
            remove_snapshots(self.files)


def new_recorder(url: str, context: RowContext) -> Recorder:
    """A recorder that stops writing as soon as another session holds the run."""
    files = open_files(url)
    return Recorder(files, context, may_write=HeldFiles(files, context.session_id).check)


def write_searches(files: Files, settings: SearchSettings) -> None:
    """Derive the searches table from all rows on disk; it is rewritten whole."""
    probes = read_probes(files, LIGHT_COLUMNS)
    write_table(files, SEARCHES_FILE, derive_searches(read_searches(files), probes, settings))


@contextmanager
def open_session(
    plan: Plan,
    url: str,
    *,
    take_over: bool = False,
    retry_failed: bool = False,
    extension: Extension | None = None,
    asked_to_stop: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """Begin the run at `url`, or resume it if it holds the same sweep.

    Args:
        plan: The searches and their inputs.
        url: Folder or URL of the run.
        take_over: Whether to take the run from a session that seems to be alive.
        retry_failed: Whether to retry probes that the machine failed too often.
        extension: What `plan` adds to an existing run; None if the run must hold the same sweep.
        asked_to_stop: Called from another thread when the session should end: `capsweep stop` asked it to, or it has
            lost the run.

    Raises:
        BadInput: when the folder holds something else, another session holds the run, or the inputs have changed.
    """
    refuse_credentials(url)
    files = open_files(url)
    held = plan if extension is None else extension.held
    check_same_run(held, files)
    now = datetime.now(UTC)
    session_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    with _held(RunLock(files, session_id, asked_to_stop=asked_to_stop), url, take_over=take_over):
        files = HeldFiles(files, session_id)
        if extension is not None and read_sweep(files) != held.sweep:
            raise BadInput(f"{url}: another session has extended this run in the meantime. Try again.")
        files.remove_unfinished()
        damaged: list[DamagedFileError] = []
        probes = read_probes(files, VERDICT_COLUMNS, damaged=damaged)
        notes = _set_aside_damaged(files, damaged)
        added = None if extension is None else extension.added
        provenance = with_session(plan, files, session_id, now, notes=notes, added=added)
        files.write(PROVENANCE_FILE, json.dumps(provenance, indent=2).encode())
        # 1. What the plan alone determines, including tables that were damaged.
        _write_planned(plan, files, is_extended=extension is not None)
        # 2. The rows of earlier sessions.
        if len(names := row_files(files)) > COMPACT_FILES:
            compact(files, names, session_id, may_write=files.check)
        yield Session(
            plan=plan,
            files=files,
            session_id=session_id,
            ledger=Ledger(plan.searches, plan.sweep.search_settings(), verdicts_of(probes), retry_failed=retry_failed),
            context=_context(plan, url, session_id),
            notes=tuple(notes),
        )


@contextmanager
def _held(lock: RunLock, url: str, *, take_over: bool) -> Iterator[None]:
    """Hold the lock of the run at `url`."""
    try:
        lock.take(take_over=take_over)
    except OSError as error:
        raise BadInput(
            f"{url}: cannot be written to ({error.strerror or error}). Wanted a folder of its own for the run; "
            "choose another --run-dir or storage."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _context(plan: Plan, url: str, session_id: str) -> RowContext:
    return RowContext(
        run_id=Path(url).name,
        session_id=session_id,
        task=plan.task.name,
        question=plan.question,
        searches={search.search_id: plan.columns(search) for search in plan.searches},
    )


def _write_planned(plan: Plan, files: Files, *, is_extended: bool) -> None:
    """Write the plan's tables and sweep where they are missing; for an extension, write all of them."""
    if is_extended:
        # Until this file is removed, any session that opens the run, extended or not, rewrites its tables.
        files.write(EXTENDING_FILE, dump(plan.sweep).encode())
    unsettled = files.exists(EXTENDING_FILE)
    begun = files.exists(SWEEP_FILE)
    if unsettled or not begun or not files.exists(SAMPLES_FILE):
        write_table(files, SAMPLES_FILE, plan.samples_table())
    if unsettled or not files.exists(SEARCHES_FILE):
        write_table(files, SEARCHES_FILE, with_known(plan.searches_table(), read_searches(files)))
    if is_extended or not begun:
        # Last: a folder with a sweep file is a run of that sweep, even if this session is killed now.
        files.write(SWEEP_FILE, dump(plan.sweep).encode())
    if unsettled:
        files.remove(EXTENDING_FILE)


def _set_aside_damaged(files: Files, damaged: list[DamagedFileError]) -> list[str]:
    """Move damaged row files and tables to `damaged/`; returns a note about each."""
    damaged = list(damaged)
    for name, read in ((SAMPLES_FILE, read_samples), (SEARCHES_FILE, read_searches)):
        try:
            if files.exists(name):
                read(files)
        except DamagedFileError as error:
            damaged.append(error)
    for found in damaged:
        files.move(found.name, f"{DAMAGED_FOLDER}/{Path(found.name).name}")
    return [
        f"{found.name} was damaged ({found.damage}): it is in {DAMAGED_FOLDER}/ now. "
        + (
            "It is derived and was rewritten."
            if found.name in (SAMPLES_FILE, SEARCHES_FILE)
            else "The probes it held run again."
        )
        for found in damaged
    ]


def make_probe(plan: Plan, order: Order) -> Probe:
    """The probe of an order of the ledger, with its text; a warm probe still lacks its memory."""
    search, asked = order.search, order.probe
    sample = plan.samples[search.model, search.sample_id]
    return Probe(
        probe_id=order.probe_id,
        search_id=search.search_id,
        number=asked.number,
        attempt=asked.attempt,
        sample_id=search.sample_id,
        tokens=sample.tokens[: asked.limit],
        length=asked.length,
        num_vectors=search.num_vectors,
        start=asked.start,
        max_trained_tokens=asked.max_trained_tokens,
    )
