"""One session of a run: the lock is held, the rows on disk are folded into a ledger, new rows are recorded.

The parts that every executor shares, in process or on Ray. Knows nothing of Ray or torch.
"""

import json
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.plan import Plan
from orchestrator.redact import redact_command, refuse_credentials
from orchestrator.run_directory import (
    DAMAGED_FOLDER,
    LIGHT_COLUMNS,
    PROVENANCE_FILE,
    RUN_NAMES,
    SWEEP_FILE,
    is_run,
    read_provenance,
    read_sweep,
)
from orchestrator.search.ledger import Ledger, Order
from orchestrator.search.policy import SearchSettings
from orchestrator.spec import dump
from orchestrator.store.compaction import COMPACT_FILES, compact
from orchestrator.store.files import Files, open_files
from orchestrator.store.lock import LostLockError, RunLock, holds
from orchestrator.store.reader import (
    SAMPLES_FILE,
    SEARCHES_FILE,
    DamagedFileError,
    read_probes,
    read_samples,
    read_searches,
    row_files,
    write_table,
)
from orchestrator.store.recorder import Recorder
from orchestrator.store.rows import RowContext
from orchestrator.store.searches import VERDICT_COLUMNS, derive_searches, verdicts_of
from orchestrator.store.snapshots import remove_snapshots
from tasks.contract import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run that this process may write to."""

    plan: Plan
    files: Files
    session_id: str
    ledger: Ledger
    context: RowContext
    """What every row of this session says alike."""
    notes: tuple[str, ...] = ()
    """What was found in the run directory that a user should know."""

    def recorder(self) -> Recorder:
        """The one writer of rows; at most one of them may be in use."""
        return new_recorder(self.files.url, self.context)

    def finish(self) -> None:
        """Derive the searches table from all rows on disk."""
        write_searches(self.files, self.plan.sweep.search_settings())
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
def open_session(plan: Plan, url: str, *, take_over: bool = False, retry_failed: bool = False) -> Iterator[Session]:
    """Begin the run at `url`, or go on with it if it holds the same sweep.

    Args:
        plan: What to do.
        url: The run.
        take_over: Whether to take it from a session that seems to live.
        retry_failed: Whether to try probes again that the machine failed too often.

    Raises:
        BadInput: when the folder holds something else, another session, or the inputs have changed since.
    """
    refuse_credentials(url)
    files = open_files(url)
    check_same_run(plan, files)
    now = datetime.now(UTC)
    session_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    lock = RunLock(files, session_id)
    try:
        lock.take(take_over=take_over)
    except OSError as error:
        raise BadInput(
            f"{url}: cannot be written to ({error.strerror or error}). Wanted a folder of its own for the run; "
            "choose another --run-dir or storage."
        ) from error
    try:
        files.remove_unfinished()
        damaged: list[DamagedFileError] = []
        probes = read_probes(files, VERDICT_COLUMNS, damaged=damaged)
        notes = _set_aside_damaged(files, damaged)
        provenance = _provenance(plan, files, session_id, now, notes)
        files.write(PROVENANCE_FILE, json.dumps(provenance, indent=2).encode())
        # 1. What a plan says by itself, also where it was damaged.
        if not files.exists(SAMPLES_FILE) or not files.exists(SWEEP_FILE):
            write_table(files, SAMPLES_FILE, plan.samples_table())
        if not files.exists(SEARCHES_FILE):
            write_table(files, SEARCHES_FILE, plan.searches_table())
        if not files.exists(SWEEP_FILE):
            # Last: what has a sweep file is a run, whatever killed the session that began it.
            files.write(SWEEP_FILE, dump(plan.sweep).encode())
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


def _set_aside_damaged(files: Files, damaged: list[DamagedFileError]) -> list[str]:
    """Move files of rows that are damaged, and other tables that are, to `damaged/`; says what becomes of them."""
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
        f"{found.name} was damaged ({found.said}): it lies in {DAMAGED_FOLDER}/ now. "
        + (
            "It is derived and was written anew."
            if found.name in (SAMPLES_FILE, SEARCHES_FILE)
            else "The probes it held run again."
        )
        for found in damaged
    ]


def check_same_run(plan: Plan, files: Files) -> None:
    """Raise BadInput unless `files` is empty or holds this very sweep with unchanged inputs."""
    if not is_run(files):
        if row_files(files):
            raise BadInput(f"{files.url}: holds rows but no {SWEEP_FILE}; not a run that can be resumed. Use another.")
        if foreign := [name for name in files.names("", suffix="") if name not in RUN_NAMES]:
            raise BadInput(
                f"{files.url}: holds {', '.join(foreign[:3])}, which is no part of a run. Wanted a folder that is new, "
                "empty or a run; choose another --run-dir."
            )
        return
    # Read, not compared as text: a field that is new since then stands at its default.
    if read_sweep(files) != plan.sweep:
        raise BadInput(
            f"{files.url}: already holds another sweep ({SWEEP_FILE} in it differs from yours). "
            "Choose another --run-dir, or resume that one with `capsweep resume`."
        )
    known = read_provenance(files)["models"]
    problems = [
        f"{files.url}: model {model.name} has changed since the run began: fingerprint "
        f"{known[model.name]['facts']['fingerprint'][:16]} then, {model.facts.fingerprint[:16]} now. "
        "Restore it, or begin a new run."
        for model in plan.models
        if model.name in known and known[model.name]["facts"]["fingerprint"] != model.facts.fingerprint
    ]
    # A model that has changed may cut its texts otherwise.
    if problems := problems or _changed_texts(plan, files):
        raise BadInput(*problems)


def _changed_texts(plan: Plan, files: Files) -> list[str]:
    """What to say of texts that are not those of the run."""
    try:
        stored = {(row["model"], row["source"]): row["sample_id"] for row in read_samples(files).to_pylist()}
    except (FileNotFoundError, DamagedFileError):
        return []  # it is written anew; rows of other texts belong to other searches
    now = {(model, sample.source): sample.sample_id for (model, _), sample in plan.samples.items()}
    changed = {key[1]: key for key in {**stored, **now} if stored.get(key) != now.get(key)}
    return [
        f"{files.url}: text {source} has changed since the run began: hash {stored.get(key, 'none')} then, "
        f"{now.get(key, 'none')} now. Restore it, or begin a new run."
        for source, key in sorted(changed.items())
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
        most_tokens=step.most_tokens,
    )


def _provenance(plan: Plan, files: Files, session_id: str, now: datetime, notes: Sequence[str]) -> dict[str, Any]:
    """What a reader of the run needs to know about how it was made."""
    known = read_provenance(files) if files.exists(PROVENANCE_FILE) else {}
    session = {
        "session_id": session_id,
        "started_at": now.isoformat(timespec="seconds"),
        "command": redact_command(["capsweep", *sys.argv[1:]]),
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "versions": {name: version(name) for name in ("capsweep", "torch", "transformers", "ray", "pyarrow")},
        "notes": list(notes),
    }
    return {
        "models": {model.name: {"model": asdict(model.model), "facts": asdict(model.facts)} for model in plan.models},
        "notes": list(plan.notes),
        "sessions": [*known.get("sessions", []), session],
    }


def _git_commit() -> str | None:
    """Commit of the code that runs, if it runs from a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
