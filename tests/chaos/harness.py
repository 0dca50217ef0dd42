"""Provokes faults in real runs, and looks at what they left on disk the way no reader of the product does."""

import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import orchestrator
from orchestrator.execution.executor import Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.planner import make_plan
from orchestrator.runs.record import SWEEP_FILE
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.files import open_files
from orchestrator.store.snapshots import SNAPSHOT_FOLDER

END_SECONDS = 300


@dataclass(kw_only=True)
class Tally:
    """What one promise was put to, and what was found."""

    promise: str
    provoked: int = 0
    lost: int = 0
    """Finished probes that were on disk and are not any more."""
    repeated: int = 0
    """Finished probes that were run again although they were on disk."""
    torn: int = 0
    """Files that are not what was written, and leftovers of writes."""
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not (self.lost or self.repeated or self.torn)

    def line(self) -> str:
        numbers = f"provoked {self.provoked:2}, lost {self.lost}, repeated {self.repeated}, torn {self.torn}"
        return f"{self.promise:64} {numbers}" + "".join(f"; {note}" for note in self.notes)


class Witness:
    """Remembers what was on disk, file by file."""

    def __init__(self, run: str | Path, tally: Tally) -> None:
        self._files = open_files(str(run))
        self._tally = tally
        self._finished: dict[str, set[tuple[str, Any]]] = defaultdict(set)
        """probe_id -> sessions and times of all verdicts that were ever seen."""
        self._given_up: set[str] = set()
        """Files whose content may be gone: they were damaged on purpose."""

    @property
    def num_finished(self) -> int:
        return len(self._finished)

    def give_up(self, name: str) -> None:
        """The rows of this file will be gone, and be found out again."""
        for row in self._rows(name):
            self._finished.pop(row["probe_id"], None)
        self._given_up.add(name)

    def look(self) -> None:
        """Read every file of rows; may be called while nobody merges any."""
        seen: set[str] = set()
        for name in self._files.names("probes", suffix=".parquet"):
            if name in self._given_up:
                continue
            for row in self._rows(name):
                seen.add(row["probe_id"])
                self._finished[row["probe_id"]].add((row["session_id"], row["finished_at"]))
        self._tally.lost += len(self._finished.keys() - seen)

    def conclude(self) -> None:
        """Look for the last time: count what was found out twice, and leftovers."""
        self.look()
        self._tally.repeated += sum(len(found) - 1 for found in self._finished.values())
        if "://" not in self._files.url:
            self._tally.torn += len(list(Path(self._files.url).rglob("*.tmp")))

    def _rows(self, name: str) -> list[dict[str, Any]]:
        content = self._files.read(name)
        if hashlib.sha256(content).hexdigest()[:16] not in name:
            self._tally.torn += 1
            return []
        columns = ["probe_id", "session_id", "outcome", "finished_at"]
        rows = pq.read_table(pa.BufferReader(content), columns=columns, use_threads=False).to_pylist()
        return [row for row in rows if row["outcome"] != "failed"]


def write_sweep(folder: Path, *, texts: int, name: str = "chaos", **fields: Any) -> Path:
    """A sweep of the toy task, whose capacities are known, over so many texts."""
    (folder / "texts").mkdir(exist_ok=True)
    for number in range(texts):
        text = f"Text number {number}: long enough to have a capacity of its own, and then some more words."
        (folder / "texts" / f"{number:05d}.txt").write_text(text)
    sweep = {
        "name": name,
        "task": "toy",
        "models": ["toy/model"],
        "texts": [{"source": "files", "path": "texts/"}],
        "recipe": {"step_seconds": 0.02, "steps": 8, "slots": 4},
        **fields,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return path


def undisturbed(spec: Path, run: Path) -> list[dict[str, Any]]:
    """The searches table of a toy sweep that nothing disturbs: in this process, with steps that take no time."""
    sweep = load_sweep(spec)
    assert not isinstance(sweep.recipe, str)
    plan = make_plan(sweep.model_copy(update={"recipe": {**sweep.recipe, "step_seconds": 0.0}}))
    with open_session(plan, str(run)) as session:
        InlineExecutor().run(session, stop=Stop(), watcher=Watcher())
        session.finish()
    return searches_of(run)


def capsweep(*arguments: str | Path) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def begin(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a verb in a process of its own, whose output goes to a pipe."""
    return subprocess.Popen(capsweep(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def begin_impatient(*arguments: str | Path, stall_seconds: float) -> "subprocess.Popen[str]":
    """The same, where an engine that takes no step is given up after so many seconds rather than ten minutes."""
    lines = (
        # As a run does it: Ray, which comes with the pool, reads them when it is imported.
        "from orchestrator.cluster.environment import set_variables",
        "set_variables(None)",
        "from orchestrator.cli.app import main",
        "from orchestrator.cluster import engine_pool",
        f"engine_pool.STALL_SECONDS = {stall_seconds}",
        "main()",
    )
    command = [sys.executable, "-c", "; ".join(lines), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def to_end(*arguments: str | Path, code: int = 0) -> str:
    """Run a verb to its end, which must have this exit code; returns its output."""
    process = begin(*arguments)
    output = end(process)
    assert process.returncode == code, output
    return output


def end(process: "subprocess.Popen[str]") -> str:
    """Wait for the end; returns the output."""
    try:
        return process.communicate(timeout=END_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"no end within {END_SECONDS} s: {process.communicate()[0]}") from None


def kill_at_random(
    spec: Path,
    run: str | Path,
    *options: str,
    kills: int,
    between: tuple[float, float],
    tally: Tally,
) -> Witness:
    """Begin a run, and resume it, killed at random moments so many times; then let it end.

    Args:
        spec: The sweep.
        run: Its run directory.
        options: Of the verbs `run` and `resume`.
        kills: How often.
        between: Seconds after its start at which a process is killed.
        tally: Counts.

    Returns:
        Who looked after every kill.
    """
    moments = random.Random(tally.promise)
    witness = Witness(run, tally)
    for _ in range(kills):
        process = begin("run", spec, "--run-dir", run, *options)
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=moments.uniform(*between))
            raise AssertionError(f"ended before it was killed, after {tally.provoked} kills: {output}")
        process.kill()
        process.wait()
        tally.provoked += 1
        witness.look()
    # On a machine that others use, every kill may have come before the run had begun.
    begun = open_files(str(run)).exists(SWEEP_FILE)
    to_end(*(("resume", run) if begun else ("run", spec, "--run-dir", run)), *options)
    witness.conclude()
    return witness


def wait_until(
    what: Callable[[], Any],
    process: "subprocess.Popen[str] | None" = None,
    *,
    awaited: str = "",
    seconds: float = 120,
) -> Any:
    """Wait for something to become true, while a process runs if one is given; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if process is not None:
            assert process.poll() is None, f"ended too early: {process.communicate()[0]}"
        assert time.monotonic() < deadline, f"waited in vain: {awaited}"
        time.sleep(0.05)
    return found


def num_row_files(run: Path) -> int:
    return len(list((run / "probes").glob("*.parquet")))


def slot_steps(output: str) -> int:
    """Optimizer steps that a session reports."""
    found = re.search(r"engines: ([\d,]+) optimizer steps", output)
    return int(found[1].replace(",", "")) if found else 0


def steps_on_disk(run: Path) -> int:
    """Steps of finished probes, and of probes in flight as they were saved."""
    rows = orchestrator.read(str(run)).probes.select(["probe_id", "outcome", "steps"]).to_pylist()
    done = {row["probe_id"]: row["steps"] for row in rows if row["outcome"] != "failed"}
    saved: dict[str, int] = {}
    for path in (run / SNAPSHOT_FOLDER).glob("*.parquet"):
        for row in pq.read_table(path, use_threads=False).to_pylist():
            saved[row["probe_id"]] = max(row["steps"], saved.get(row["probe_id"], 0))
    return sum({**saved, **done}.values())


def searches_of(run: str | Path) -> list[dict[str, Any]]:
    """The searches table without times, in a fixed order."""
    table = orchestrator.read(str(run)).searches.drop_columns(["seconds"])
    return sorted(table.to_pylist(), key=lambda row: row["search_id"])


def differences(found: Iterable[Mapping[str, Any]], expected: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where two searches tables differ."""
    return [
        f"{a['source']}: {key} {a[key]} for {b[key]}"
        for a, b in zip(found, expected, strict=True)
        for key in a
        if a[key] != b[key]
    ]


def descendants(pid: int, *titles: str) -> list[int]:
    """Processes below this one whose command line contains one of these."""
    found: list[int] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                command_line = " ".join(process.cmdline())
                if any(title in command_line for title in titles):
                    found.append(process.pid)
    return found


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


KILL = signal.SIGKILL
