"""One session of a run: the lock is held, the rows on disk are folded into a ledger, new rows are recorded.

The parts that every executor shares, in process or on Ray. Knows nothing of Ray or torch.
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
from orchestrator.store.lock import LostLockError, RunLock, holds
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
    session_id: str
    ledger: Ledger
    context: RowContext
    """What is the same in every row of this session."""
    notes: tuple[str, ...] = ()
    """What was found in the run directory that a user should know."""

    def recorder(self) -> Recorder:
        """The one writer of rows; at most one of them may be in use."""
        return new_recorder(self.files.url, self.context)

    def finish(self) -> None:
        """Derive the searches table from all rows on disk, and note when that was."""
        write_searches(self.files, self.plan.sweep.search_settings())
        if holds(self.files, self.session_id):
            ended = with_end(read_provenance(self.files), self.session_id, datetime.now(UTC))
            self.files.write(PROVENANCE_FILE, json.dumps(ended, indent=2).encode())
        if self.ledger.num_open == 0:
            remove_snapshots(self.files)


def new_recorder(url: str, context: RowContext) -> Recorder:
    """A recorder that stops writing as soon as another session holds the run."""
    files = open_files(url)
    return Recorder(files, context, may_write=_may_write(files, context.session_id))


def _may_write(files: Files, session_id: str) -> Callable[[], None]:
    def check() -> None:
        if not holds(files, session_id):
            raise LostLockError(f"{files.url}: session {session_id} has lost this run; its rows are not written.")

    return check


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
        plan: What to do.
        url: The run.
        take_over: Whether to take it from a session that seems to live.
        retry_failed: Whether to try probes again that the machine failed too often.
        extension: What `plan` adds to the run that is there; None if it is to hold the same sweep.
        asked_to_stop: Called, from another thread, when somebody asks for the session's end by `capsweep stop`.

    Raises:
        BadInput: when the folder holds something else, another session, or the inputs have changed since.
    """
    refuse_credentials(url)
    files = open_files(url)
    held = plan if extension is None else extension.held
    check_same_run(held, files)
    now = datetime.now(UTC)
    session_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    lock = RunLock(files, session_id, asked_to_stop=asked_to_stop)
    try:
        lock.take(take_over=take_over)
    except OSError as error:
        raise BadInput(
            f"{url}: cannot be written to ({error.strerror or error}). Wanted a folder of its own for the run; "
            "choose another --run-dir or storage."
        ) from error
    try:
        if extension is not None and read_sweep(files) != held.sweep:
            raise BadInput(f"{url}: another session has extended this run in the meantime. Try again.")
        files.remove_unfinished()
        damaged: list[DamagedFileError] = []
        probes = read_probes(files, VERDICT_COLUMNS, damaged=damaged)
        notes = _set_aside_damaged(files, damaged)
        added = None if extension is None else extension.added
        provenance = with_session(plan, files, session_id, now, notes=notes, added=added)
        files.write(PROVENANCE_FILE, json.dumps(provenance, indent=2).encode())
        # 1. What a plan gives by itself, also where it was damaged.
        _write_planned(plan, files, is_extended=extension is not None)
        # 2. What was found out so far.
        if len(names := row_files(files)) > COMPACT_FILES:
            compact(files, names, session_id, may_write=_may_write(files, session_id))
        settings = plan.sweep.search_settings()
        yield Session(
            plan=plan,
            files=files,
            session_id=session_id,
            ledger=Ledger(plan.searches, settings, verdicts_of(probes), retry_failed=retry_failed),
            context=RowContext(
                run_id=Path(url).name,
                session_id=session_id,
                task=plan.task.name,
                question=plan.question,
                searches={search.search_id: plan.columns(search) for search in plan.searches},
            ),
            notes=tuple(notes),
        )
    finally:
        lock.release()


def _write_planned(plan: Plan, files: Files, *, is_extended: bool) -> None:
    """Write what is missing of a plan's tables and its sweep, or all of it where they get more."""
    if is_extended:
        # From here to the end whoever resumes the run, as it was or as it is to be, writes its tables anew.
        files.write(EXTENDING_FILE, dump(plan.sweep).encode())
    unsettled = files.exists(EXTENDING_FILE)
    begun = files.exists(SWEEP_FILE)
    if unsettled or not begun or not files.exists(SAMPLES_FILE):
        write_table(files, SAMPLES_FILE, plan.samples_table())
    if unsettled or not files.exists(SEARCHES_FILE):
        write_table(files, SEARCHES_FILE, with_known(plan.searches_table(), read_searches(files)))
    if is_extended or not begun:
        # Last: what has a sweep file is a run, and that run, whatever killed the session that began it.
        files.write(SWEEP_FILE, dump(plan.sweep).encode())
    if unsettled:
        files.remove(EXTENDING_FILE)


def _set_aside_damaged(files: Files, damaged: list[DamagedFileError]) -> list[str]:
    """Move files of rows that are damaged, and other tables that are, to `damaged/`; returns what becomes of them."""
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
        f"{found.name} was damaged ({found.damage}): it lies in {DAMAGED_FOLDER}/ now. "
        + (
            "It is derived and was written anew."
            if found.name in (SAMPLES_FILE, SEARCHES_FILE)
            else "The probes it held run again."
        )
        for found in damaged
    ]


def make_probe(plan: Plan, order: Order) -> Probe:
    """The probe that an order of the ledger stands for, with its text; a warm one still lacks its memory."""
    search, step = order.search, order.step
    sample = plan.samples[search.model, search.sample_id]
    return Probe(
        probe_id=order.probe_id,
        search_id=search.search_id,
        number=step.number,
        attempt=step.attempt,
        sample_id=search.sample_id,
        tokens=sample.tokens[: step.limit],
        length=step.length,
        num_vectors=search.num_vectors,
        start=step.start,
        max_trained_tokens=step.max_trained_tokens,
    )
