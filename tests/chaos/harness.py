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

import pyarrow as pa
import pyarrow.parquet as pq

import orchestrator
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


def capsweep(*arguments: str | Path) -> list[str]:
    """The command line of a verb."""
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


def begin(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a verb in a process of its own, whose output goes to a pipe."""
    return subprocess.Popen(capsweep(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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
    to_end("resume", run, *options)
    witness.conclude()
    return witness


def wait_until(what: Callable[[], Any], process: "subprocess.Popen[str]", *, seconds: float = 120) -> Any:
    """Wait for something to become true while a process runs; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, f"ended too early: {process.communicate()[0]}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
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


def descendants(pid: int, *titles: bytes) -> list[int]:
    """Processes below this one whose command line contains one of these."""
    parents: dict[int, int] = {}
    titled: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            number = int(process.name)
            parents[number] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if any(title in (process / "cmdline").read_bytes() for title in titles):
                titled.append(number)

    def is_below(number: int) -> bool:
        while number in parents and number != pid:
            number = parents[number]
        return number == pid

    return [number for number in titled if number != pid and is_below(number)]


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


KILL = signal.SIGKILL
