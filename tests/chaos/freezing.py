"""Freezes real sessions right before they touch a file of their run, with SIGSTOP, while others take the run over.

A process of its own, because it forks:

    python -m tests.chaos.freezing locks FOLDER MOMENT ..
    python -m tests.chaos.freezing linked FOLDER MOMENT ..
    python -m tests.chaos.freezing sessions FOLDER MOMENT .. SWEEP

The first freezes a session that only holds the lock and writes three rows; without a moment, at every moment there is.
The second does so where `probes/` is a link. The third freezes `capsweep run`. A moment is
a number (the how-manieth time that a file is touched) or `EVENT PATTERN NUMBER` (the how-manieth event of Python's
audit hooks on a path that matches). Prints one JSON object per moment.
"""

import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from orchestrator.errors import BadInput
from orchestrator.store import lock
from orchestrator.store.held import LostLockError
from orchestrator.store.local_files import LocalFiles

TOUCHING = {"open", "os.listdir", "os.mkdir", "os.rename", "os.link", "os.remove"}
END_SECONDS = 120
SECOND_ROWS = "os.rename probes/[^/]*[.]parquet 2"


def begin(run: Path, moment: str, work: Callable[[], int]) -> int:
    """Fork a session that freezes at this moment; returns its pid. Its output goes to a file beside the run."""
    if pid := os.fork():
        return pid
    output = os.open(f"{run}.{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        _freeze_at(moment, f"{run}/")
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _freeze_at(moment: str, inside: str) -> None:
    words = moment.split()
    kind, pattern, number = words if len(words) == 3 else ("", ".*", words[0])
    times = count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in TOUCHING:
            return
        path = arguments[1 if event in ("os.rename", "os.link") else 0]
        path = os.fspath(path) if isinstance(path, str | Path) else ""
        matches = path.startswith(inside) and re.fullmatch(pattern, path.removeprefix(inside))
        if matches and kind in ("", event) and next(times) == int(number):
            os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)


def wait(pid: int) -> int | None:
    """The exit code of a session; None if it was frozen."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WUNTRACED | os.WNOHANG)
        if ended:
            return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    raise TimeoutError(f"session {pid} has not ended")


def wake(pid: int) -> int | None:
    """The exit code of a frozen session, once it was let go on."""
    os.kill(pid, signal.SIGCONT)
    return wait(pid)


def freeze(run: Path, moment: str, work: Callable[[bool], int]) -> dict[str, Any]:
    """Freeze a session at this moment, let another take over, wake the first beside it, and let both end.

    Args:
        run: The run.
        moment: When the first is frozen.
        work: A session, told whether to take over; returns its exit code.
    """
    first = begin(run, moment, lambda: work(False))
    code = wait(first)
    frozen = code is None
    # The second is frozen at its second rows, so that it is at work when the first wakes up.
    second = begin(run, SECOND_ROWS, lambda: work(True))
    other = wait(second)
    before = _state(run)
    if frozen:
        code = wake(first)
    changed = sorted(name for name, content in _state(run).items() if content != before.get(name))
    if other is None:
        other = wake(second)
    said = Path(f"{run}.{first}.txt").read_text()
    return {"moment": moment, "frozen": frozen, "code": code, "other": other, "changed": changed, "said": said}


def _state(run: Path) -> dict[str, bytes]:
    """The files of a run, without those that are being written."""
    found = (Path(folder, name) for folder, _, names in os.walk(run, followlinks=True) for name in names)
    return {str(path.relative_to(run)): path.read_bytes() for path in found if path.suffix != ".tmp"}


def hold(run: Path, take_over: bool) -> int:
    """The least session: holds the lock and writes three rows."""
    name = "second" if take_over else "first"
    mine = lock.RunLock(LocalFiles(run), name)
    try:
        held = mine.take(take_over=take_over)
    except BadInput:
        return 2
    try:
        held.remove_unfinished()
        held.write(f"probes/{name}-0.parquet", b"rows")
        begun = os.stat(run / "lock").st_mtime_ns
        while os.stat(run / "lock").st_mtime_ns == begun:  # until its heart has beaten
            time.sleep(0.002)
            held.check()
        for number in (1, 2):
            held.write(f"probes/{name}-{number}.parquet", b"rows")
            time.sleep(0.008)
    except LostLockError:
        return 1
    finally:
        mine.release()
    return 0


def locks(folder: Path, moments: Iterable[str], *, linked: bool) -> None:
    """Freeze `hold` at these moments, until it ends before it is frozen."""
    lock.HEARTBEAT_SECONDS = 0.005
    lock.SETTLE_SECONDS = 0.01
    for number, moment in enumerate(moments):
        run = folder / f"run{number}"
        if linked:
            (folder / f"elsewhere{number}").mkdir()
            run.mkdir()
            (run / "probes").symlink_to(folder / f"elsewhere{number}")
        found = freeze(run, moment, lambda take_over, run=run: hold(run, take_over))
        if not found["frozen"]:
            return
        print(json.dumps({**found, "run": str(run)}), flush=True)


def sessions(folder: Path, spec: str, moments: list[str]) -> None:
    """Freeze `capsweep run` at each of these moments."""
    from orchestrator import launch
    from orchestrator.cli.app import main as capsweep

    lock.HEARTBEAT_SECONDS = 0.1
    lock.SETTLE_SECONDS = 0.05
    launch.write_report = lambda run, searches: ""  # takes longer than the session

    def run_to_end(run: Path, take_over: bool) -> int:
        sys.argv = ["capsweep", "run", spec, "--inline", "--run-dir", str(run), *["--take-over"] * take_over]
        try:
            capsweep()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    for number, moment in enumerate(moments):
        run = folder / f"run{number}"
        print(json.dumps(freeze(run, moment, lambda take_over, run=run: run_to_end(run, take_over))), flush=True)


def main() -> None:
    """Freeze what the command line says."""
    what, folder, *more = sys.argv[1:]
    os.fsync = lambda descriptor: None  # no power is cut here, and a disk that others use takes its time
    if what == "sessions":
        sessions(Path(folder), more[-1], more[:-1])
    else:
        locks(Path(folder), more or map(str, count(1)), linked=what == "linked")


if __name__ == "__main__":
    main()
