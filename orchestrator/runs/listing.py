"""What `capsweep runs` shows of the runs in a folder, from their small files and never from their rows.

Counts are those of the searches table, which a session that runs keeps up to date. Knows nothing of Ray, torch or the
terminal.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import pyarrow as pa

from orchestrator.errors import BadInput, typed
from orchestrator.redact import refuse_credentials
from orchestrator.runs.provenance_form import parse_provenance
from orchestrator.runs.record import PROVENANCE_FILE, SWEEP_FILE, is_run
from orchestrator.store.claims import LOCK_FILE, read_holder
from orchestrator.store.files import Files, open_files
from orchestrator.store.holder import Holder, writer_of
from orchestrator.store.parquet import SEARCHES_FILE, parse_table
from orchestrator.store.schema import SEARCHES

READ_TOGETHER = 256
"""Runs whose files are read in one call."""
COLUMNS = ("task", "model", "sample_id", "num_vectors", "status", "capacity_tokens")
WANTED = (SWEEP_FILE, PROVENANCE_FILE, LOCK_FILE, SEARCHES_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCapacity:
    """The finished searches of one model with one number of vectors."""

    model: str
    num_vectors: int
    mean_tokens: float
    """Their mean capacity."""
    num_searches: int
    is_bound: bool
    """Whether one of them ended with its text or at a limit: then the mean is a lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """One run of the list."""

    name: str
    """Its folder's name."""
    begun: datetime
    """When its first session began, UTC."""
    written: datetime
    """When its last session ended, UTC; while it has not, its last heartbeat or its start."""
    task: str | None
    """None in tables of early versions."""
    models: tuple[str, ...]
    """Names of its models in its tables."""
    num_texts: int
    """Number of texts of the model with the most."""
    num_vectors: tuple[int, ...]
    done: int
    """Searches that are finished."""
    open: int
    failed: int
    mean_tokens: float | None
    """Mean capacity of the finished searches in tokens; None if there is none, or if they differ in model or k."""
    capacities: tuple[GroupCapacity, ...]
    """Mean capacities of the finished searches, one for each model and number of vectors."""
    sessions: int
    writer: str | None
    """Who writes to it now; None if nobody does."""

    def as_json(self) -> str:
        """One line of JSON, times in ISO 8601."""
        return json.dumps({**asdict(self), "begun": self.begun.isoformat(), "written": self.written.isoformat()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a folder contains."""

    runs: tuple[ListedRun, ...]
    """Newest first."""
    damaged: Mapping[str, str]
    """Run that cannot be read -> why."""
    foreign: tuple[str, ...]
    """Folders and files that are not runs."""


def list_runs(url: str) -> Listing:
    """The runs directly in a folder or URL.

    Raises:
        BadInput: when the URL holds credentials, or is itself a run.
        OSError: when the storage does not answer.
    """
    refuse_credentials(url)
    files = open_files(url)
    if is_run(files):
        raise BadInput(
            f"{url}: is a run itself. Give the folder that contains it, or see it with `capsweep status {typed(url)}`."
        )
    runs: list[ListedRun] = []
    damaged: dict[str, str] = {}
    foreign: list[str] = []
    now = time.time()
    for name, found in _contents(files):
        if isinstance(found, OSError):
            damaged[name] = f"cannot be read ({found.strerror or found})"
        elif SWEEP_FILE not in found and PROVENANCE_FILE not in found:
            foreign.append(name)
        else:
            try:
                runs.append(_listed(files, name, found, now))
            except BadInput as error:
                damaged[name] = str(error)
            except (IndexError, ValueError, OverflowError, RecursionError):
                damaged[name] = f"{PROVENANCE_FILE} cannot be read as capsweep writes it"
    runs.sort(key=lambda run: (run.begun, run.name), reverse=True)
    return Listing(runs=tuple(runs), damaged=damaged, foreign=tuple(foreign))


def _contents(files: Files) -> Iterator[tuple[str, dict[str, bytes] | OSError]]:
    """Each name in the folder, with the contents of its WANTED files or the error of reading them."""
    names = files.names("", suffix="")
    for first in range(0, len(names), READ_TOGETHER):
        some = names[first : first + READ_TOGETHER]
        try:
            # One call for all: an object store reads many at a time.
            read = files.read_all([f"{name}/{wanted}" for name in some for wanted in WANTED])
        except OSError:
            yield from ((name, _content_of(files, name)) for name in some)
            continue
        for name in some:
            yield name, {wanted: read[f"{name}/{wanted}"] for wanted in WANTED if f"{name}/{wanted}" in read}


def _content_of(files: Files, name: str) -> dict[str, bytes] | OSError:
    """The same for one name, so that a folder that cannot be read hides no other."""
    try:
        read = files.read_all([f"{name}/{wanted}" for wanted in WANTED])
    except NotADirectoryError:
        return {}
    except OSError as error:
        return error
    return {path.removeprefix(f"{name}/"): content for path, content in read.items()}


def _listed(files: Files, name: str, found: Mapping[str, bytes], now: float) -> ListedRun:
    if PROVENANCE_FILE not in found:
        raise BadInput(f"no {PROVENANCE_FILE}")
    sessions: list[dict[str, Any]] = parse_provenance(found[PROVENANCE_FILE])["sessions"]
    schema = pa.schema([SEARCHES.field(column) for column in COLUMNS])
    table = schema.empty_table()
    if SEARCHES_FILE in found:
        table = parse_table(files, f"{name}/{SEARCHES_FILE}", found[SEARCHES_FILE], schema)
    rows = table.to_pylist()
    holder = _holder(files, name, found, sessions[-1])
    done = [row for row in rows if row["status"] not in ("open", "failed")]
    groups = _capacities(done)
    return ListedRun(
        name=name,
        begun=_moment(sessions[0]["started_at"]),
        written=_last_written(sessions[-1], holder),
        task=rows[0]["task"] if rows else None,
        models=tuple(dict.fromkeys(row["model"] for row in rows)),
        num_texts=_num_texts(rows),
        num_vectors=tuple(sorted({row["num_vectors"] for row in rows})),
        done=len(done),
        open=sum(row["status"] == "open" for row in rows),
        failed=sum(row["status"] == "failed" for row in rows),
        mean_tokens=groups[0].mean_tokens if len(groups) == 1 else None,
        capacities=groups,
        sessions=len(sessions),
        writer=writer_of(holder, now),
    )


def _holder(files: Files, name: str, found: Mapping[str, bytes], session: Mapping[str, Any]) -> Holder | None:
    """The session that holds the run, by its claims as for `capsweep status`; asked only where one may."""
    if LOCK_FILE not in found and "ended_at" in session:
        return None
    try:
        return read_holder(open_files(f"{files.url.rstrip('/')}/{name}"))
    except OSError:
        return None


def _last_written(session: Mapping[str, str], holder: Holder | None) -> datetime:
    if holder is not None:
        return datetime.fromtimestamp(holder.heartbeat, UTC).replace(microsecond=0)
    return _moment(session.get("ended_at", session["started_at"]))


def _moment(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp).astimezone(UTC)


def _capacities(rows: Sequence[Mapping[str, Any]]) -> tuple[GroupCapacity, ...]:
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["num_vectors"]), []).append(row)
    return tuple(
        GroupCapacity(
            model=model,
            num_vectors=num_vectors,
            mean_tokens=fmean(row["capacity_tokens"] for row in found),
            num_searches=len(found),
            is_bound=any(row["status"] != "measured" for row in found),
        )
        for (model, num_vectors), found in groups.items()
    )


def _num_texts(rows: Sequence[Mapping[str, Any]]) -> int:
    samples: dict[str, set[str]] = {}
    for row in rows:
        samples.setdefault(row["model"], set()).add(row["sample_id"])
    return max(map(len, samples.values()), default=0)
