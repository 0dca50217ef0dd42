"""One session of a run: it holds the lock, folds the rows on disk into a ledger, and records new rows.

All executors share it, in process or on Ray. Knows nothing of Ray or torch.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput
from orchestrator.planning.plan import Plan
from orchestrator.redact import refuse_credentials
from orchestrator.runs.derived import DerivedSearches
from orchestrator.runs.directory import EXTENDING_FILE, Run, has_samples
from orchestrator.runs.extension import Extension
from orchestrator.runs.healing import clear_lock, set_aside_damaged, set_aside_rows
from orchestrator.runs.provenance import changed_plugins, known_provenance, with_end, with_session
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, read_sweep, read_sweep_file
from orchestrator.runs.resumable import check_same_run
from orchestrator.runs.reuse import runs_to_reuse, take_over_finished
from orchestrator.search.ledger import Ledger, Order
from orchestrator.spec.sweep_file import dump
from orchestrator.store.compaction import COMPACT_FILES, compact
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles
from orchestrator.store.lock import STOP_FILE, RunLock
from orchestrator.store.parquet import PROBE_FOLDER, SAMPLES_FILE, DamagedFileError, row_files, write_table
from orchestrator.store.probe_columns import SharedColumns, verdicts_of
from orchestrator.store.recorder import Recorder
from orchestrator.store.snapshots import remove_snapshots
from tasks.values import Probe
from tasks.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """What a session leaves."""

    run: Run
    """The run as it is now; its files refuse to be changed once the session has lost it."""
    searches: pa.Table
    """The searches table, derived from plan and rows."""
    notes: tuple[str, ...]
    """What a user should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run that this process may write to."""

    plan: Plan
    files: HeldFiles
    """The run's files; they refuse to be changed once the session has lost the run."""
    session_id: str
    ledger: Ledger
    shared: SharedColumns
    """What is the same in every row of this session."""
    provenance: dict[str, Any]
    """What the run records about its models and sessions, this one included."""
    derived: DerivedSearches
    """The searches table, which follows the rows while the session runs."""
    notes: tuple[str, ...] = ()
    """What was found in the run directory that a user should know."""

    def recorder(self) -> Recorder:
        """The one writer of rows; no other recorder of this run may be in use."""
        return new_recorder(self.files.url, self.shared)

    def finish(self) -> SessionEnd:
        """Derive the searches table from plan and rows, and note when the session ended.

        All rows are on disk before, so a derived file that cannot be written now is a note, not an error.

        Raises:
            LostLockError: when the session has lost the run; nothing is written then.
            OSError: when the rows cannot be read.
        """
        notes: list[str] = []
        searches = self.derived.finish(notes)
        ended = with_end(self.provenance, self.session_id, datetime.now(UTC))
        try:
            _write_json(self.files, PROVENANCE_FILE, ended)
        except OSError as error:
            notes.append(f"{PROVENANCE_FILE} lacks the end of this session ({error.strerror or error}).")
        if self.ledger.num_open == 0:
            remove_snapshots(self.files)
        run = Run(files=self.files, sweep=self.plan.sweep, provenance=ended)
        return SessionEnd(run=run, searches=searches, notes=tuple(notes))


def new_recorder(url: str, shared: SharedColumns) -> Recorder:
    """A recorder that stops writing as soon as another session holds the run."""
    return Recorder(HeldFiles(open_files(url), shared.session_id), shared)


@contextmanager
def open_session(
    plan: Plan,
    url: str,
    *,
    take_over: bool = False,
    retry_failed: bool = False,
    extension: Extension | None = None,
    reuse: Sequence[str] = (),
    asked_to_stop: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """Begin the run at `url`, or resume it if it holds the same sweep.

    Args:
        plan: The searches and their inputs.
        url: Folder or URL of the run.
        take_over: Whether to take the run from a session that seems to be alive.
        retry_failed: Whether to retry probes that the machine failed too often.
        extension: What `plan` adds to an existing run; None if the run must hold the same sweep.
        reuse: Runs, or folders of runs, whose finished searches are taken over.
        asked_to_stop: Called from another thread when the session should end: `capsweep stop` asked it to, or it has
            lost the run.

    Raises:
        BadInput: when the folder holds something else, another session holds the run, the inputs have changed, or all
            rows are gone.
    """
    refuse_credentials(url)
    files = open_files(url)
    held = plan if extension is None else extension.held
    check_same_run(held, files)
    sources = runs_to_reuse(reuse)
    now = datetime.now(UTC)
    session_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    with _held(files, RunLock(files, session_id, asked_to_stop=asked_to_stop), take_over=take_over) as (mine, notes):
        if extension is not None and read_sweep(mine) != held.sweep:
            raise BadInput(f"{url}: another session has extended this run in the meantime. Try again.")
        # 1. What is damaged is set aside. Read before: the sweep may be in the provenance only.
        known = known_provenance(mine)
        healed = _clear(mine, session_id)
        notes += healed.values()
        # 2. The rows of earlier sessions, and of other runs: what the provenance says was taken over is on disk.
        derived = DerivedSearches(plan, mine)
        probes, about_rows = _earlier_rows(plan, mine, derived, rows_set_aside=PROBE_FOLDER in healed)
        notes += [*about_rows, *changed_plugins(plan.sweep, known)]
        taken = take_over_finished(plan, sources, mine, session_id, begun=set(probes["search_id"].to_pylist()))
        if taken.runs:
            probes = derived.read_rows(damaged=[])
        notes += taken.notes
        added = None if extension is None else extension.added
        provenance = with_session(plan, known, session_id, now, notes=notes, added=added, reused=taken.runs)
        _write_json(mine, PROVENANCE_FILE, provenance)
        # 3. What the plan and the rows determine.
        _write_planned(plan, mine, derived, probes, is_extended=extension is not None)
        _compact(mine, session_id)
        ledger = Ledger(plan.searches, plan.sweep.search_settings(), verdicts_of(probes), retry_failed=retry_failed)
        try:
            yield Session(
                plan=plan,
                files=mine,
                session_id=session_id,
                ledger=ledger,
                shared=_shared(plan, url, session_id),
                provenance=provenance,
                derived=derived,
                notes=tuple(notes),
            )
        finally:
            derived.stop()


def _clear(files: HeldFiles, session_id: str) -> dict[str, str]:
    """Remove what earlier sessions left unfinished, and set aside what is damaged; returns a note on each name."""
    files.remove_unfinished()
    healed = set_aside_damaged(files)
    if files.exists(STOP_FILE) and files.read(STOP_FILE) != session_id.encode():
        files.remove(STOP_FILE)  # asked of an earlier session
    return healed


def _earlier_rows(
    plan: Plan, files: HeldFiles, derived: DerivedSearches, *, rows_set_aside: bool
) -> tuple[pa.Table, list[str]]:
    """The rows on disk, without memories, and notes; damaged files are set aside.

    Raises:
        BadInput: when all rows are gone, and none was set aside.
    """
    damaged: list[DamagedFileError] = []
    probes = derived.read_rows(damaged=damaged)
    if not damaged and not rows_set_aside:
        derived.refuse_lost(probes)
    return probes, [*set_aside_rows(files, damaged), *_strays(plan, probes)]


def _compact(files: HeldFiles, session_id: str) -> None:
    """Merge the files of rows if there are many; the rows are on disk, merged or not."""
    if len(names := row_files(files)) > COMPACT_FILES:
        with contextlib.suppress(OSError, BadInput):
            compact(files, names, session_id)


@contextmanager
def _held(files: Files, lock: RunLock, *, take_over: bool) -> Iterator[tuple[HeldFiles, list[str]]]:
    """Hold the lock of the run in `files`; gives the files to write to, and notes."""
    try:
        notes = list(clear_lock(files).values())
        mine = lock.take(take_over=take_over)
    except OSError as error:
        raise BadInput(
            f"{files.url}: cannot be written to ({error.strerror or error}). Wanted a folder of its own for the run; "
            "choose another --run-dir or storage."
        ) from error
    try:
        yield mine, notes
    finally:
        lock.release()


def _shared(plan: Plan, url: str, session_id: str) -> SharedColumns:
    return SharedColumns(
        # Folders may have names that are not in UTF-8, which tables need.
        run_id=os.fsencode(Path(url).name).decode(errors="backslashreplace"),
        session_id=session_id,
        task=plan.task.name,
        question=plan.question,
        searches={search.search_id: plan.columns(search) for search in plan.searches},
    )


def _strays(plan: Plan, probes: pa.Table) -> list[str]:
    """A note if rows belong to searches that are not in the plan."""
    asked = {search.search_id for search in plan.searches}
    strays = [search_id for search_id in probes["search_id"].to_pylist() if search_id not in asked]
    if not strays:
        return []
    return [
        f"{counted(len(strays), 'row')} of {counted(len(set(strays)), 'search')} outside the plan (the sweep does not "
        "ask for it, or this version of capsweep gives it another id): kept on disk, and not in the searches table."
    ]


def _write_planned(
    plan: Plan, files: HeldFiles, derived: DerivedSearches, probes: pa.Table, *, is_extended: bool
) -> None:
    """Write the plan's tables and sweep where they are missing or another's; for an extension, write all of them."""
    if is_extended:
        # Until this file is removed, any session that opens the run, extended or not, rewrites its tables.
        files.write(EXTENDING_FILE, dump(plan.sweep).encode())
    unsettled = files.exists(EXTENDING_FILE)
    begun = files.exists(SWEEP_FILE)
    if unsettled or not begun or not has_samples(files, plan.samples_table()):
        write_table(files, SAMPLES_FILE, plan.samples_table())
    derived.begin(probes)
    # Equal but for the places of local files, which may have moved.
    if is_extended or not begun or read_sweep_file(files) != plan.sweep:
        # Last: a folder with a sweep file is a run of that sweep, even if this session is killed now.
        files.write(SWEEP_FILE, dump(plan.sweep).encode())
    if unsettled:
        files.remove(EXTENDING_FILE)


def _write_json(files: Files, name: str, content: dict[str, Any]) -> None:
    # Command lines and places may hold what is no text.
    files.write(name, json.dumps(content, indent=2, ensure_ascii=False).encode(errors="replace"))


def make_probe(plan: Plan, order: Order) -> Probe:
    """The probe of an order of the ledger, with its text; a warm probe still lacks its memory."""
    search, asked = order.search, order.asked
    sample = plan.samples[search.model, search.sample_id]
    return Probe(
        probe_id=order.probe_id,
        search_id=search.search_id,
        number=asked.number,
        attempt=asked.attempt,
        sample_id=search.sample_id,
        tokens=sample.tokens[: asked.limit],
        context=sample.context,
        length=asked.length,
        num_vectors=search.num_vectors,
        start=asked.start,
        max_trained_tokens=asked.max_trained_tokens,
    )
