"""Mirrors a session to the trackers of its sweep: never in its way, never its fault.

Each tracker has a thread and a process. What a tracker does not take waits for it, and is sent by a later session if
it must be. Knows nothing of the trackers' libraries.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from orchestrator.errors import BadInput, literal
from orchestrator.execution.stop import Stop
from orchestrator.redact import redact
from orchestrator.runs.directory import REPORT_FILE, TRACKING_FOLDER
from orchestrator.runs.session import Session, SessionEnd
from orchestrator.spec.tracking import DISTRIBUTIONS, TrackingEntry, wanted_trackers
from orchestrator.tracking.line import Ending, Line, Mirrored, OnMessage
from orchestrator.tracking.points import configuration, points_of, summary_of

WORKER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from orchestrator.tracking.worker import main; main(sys.argv[2])"
)
"""What a tracker's process runs: it finds the modules that this process finds, wherever they lie."""
END_SECONDS = 60.0
"""Longest time that the end of a session waits for trackers: enough for a page of some megabytes."""
SAID_SECONDS = 3.0
"""A wait that takes longer is announced."""
HURRY_SECONDS = 5.0
"""The same after Ctrl-C, and when the session ends by an error."""
REPORT_NAME = "report.html"


def missing_packages(tracking: TrackingEntry) -> dict[str, str]:
    """Tracker -> one line with the command that installs it, for those trackers whose package is not here."""
    found: dict[str, str] = {}
    for name in wanted_trackers(tracking):
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # without an origin it is some folder of that name
            distribution = DISTRIBUTIONS[name]
            found[name] = f"tracking.{name}: {distribution} is not installed here; `pip install {distribution}`."
    return found


def refuse_missing(tracking: TrackingEntry, sweep: str | os.PathLike[str]) -> None:
    """Raise BadInput if the package of a tracker is not here; `sweep` is what names it, for the message."""
    if missing := missing_packages(tracking):
        raise BadInput(*(f"{sweep}: {line}" for line in missing.values()))


class Mirror:
    """The trackers of one session."""

    def __init__(self, lines: list[Line], on_message: OnMessage) -> None:
        self._lines = lines
        self._on_message = on_message

    def show(self, searches: pa.Table) -> None:
        """Send what has finished since the last call."""
        with self._harmless():
            for line in self._lines:
                line.offer(points_of(searches, without=line.known))

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Say an error instead of raising it: a mirror is no reason to end a session."""
        try:
            yield
        except Exception as error:
            self._on_message(f"tracking: {type(error).__name__}: {error}. The run goes on.")

    def conclude(self, ended: SessionEnd, *, with_report: bool, stop: Stop) -> list[str]:
        """Send the last points, the summary and the report, and wait for a while; returns notes on what failed."""
        if not self._lines:
            return []
        self.show(ended.searches)
        is_open = "open" in ended.searches["status"].to_pylist()
        summary: dict[str, float] = {}
        with self._harmless():
            summary = summary_of(ended.searches)
        with tempfile.TemporaryDirectory(prefix="capsweep-report-") as folder:
            report = None
            if with_report:
                with contextlib.suppress(OSError):  # the page is missing there, and nothing else
                    (Path(folder) / REPORT_NAME).write_bytes(ended.run.files.read(REPORT_FILE))
                    report = f"{folder}/{REPORT_NAME}"
            self.close(Ending(summary=summary, report=report, complete=not is_open), stop=stop)
        return [note for line in self._lines for note in line.notes()]

    def close(self, ending: Ending, *, stop: Stop) -> None:
        """Let the trackers end, and wait for them; whoever takes too long is killed."""
        for line in self._lines:
            line.finish(ending)
        began, said = time.monotonic(), False
        while busy := [line for line in self._lines if line.is_alive()]:
            most = HURRY_SECONDS if stop.interrupted or ending.summary is None else END_SECONDS
            waited = time.monotonic() - began
            if waited > most:
                break
            if waited > SAID_SECONDS and not said and most == END_SECONDS:
                names = ", ".join(line.tracker for line in busy)
                self._on_message(f"tracking: waiting for {names}, {END_SECONDS:.0f} s at most; Ctrl-C ends it.")
                said = True
            time.sleep(0.02)
        for line in self._lines:
            line.kill()


@contextmanager
def mirroring(session: Session, *, stop: Stop, on_message: OnMessage) -> Iterator[Mirror]:
    """Mirror a session to the trackers of its sweep; `on_message` takes lines for the user, from other threads."""
    tracking = session.plan.sweep.tracking
    missing = missing_packages(tracking)
    for line in missing.values():
        on_message(f"{line} The run goes on without it.")
    wanted = {name: fields for name, fields in wanted_trackers(tracking).items() if name not in missing}
    commits = [each.get("git_commit") for each in session.provenance["sessions"][-1:]]
    about = Mirrored(
        files=session.files,
        folder=f"{session.files.url}/{TRACKING_FOLDER}",
        name=session.shared.run_id,
        config=configuration(session.plan, git_commit=commits[0]) if wanted else {},
        on_message=lambda message: on_message(literal(redact(message))),
    )
    lines = [
        Line(name, fields, about, (sys.executable, "-c", WORKER, json.dumps(sys.path), name))
        for name, fields in wanted.items()
    ]
    mirror = Mirror(lines, on_message)
    if wanted:
        session.derived.follow(mirror.show)
    try:
        yield mirror
    finally:  # nothing is left to be done unless the session ends by an error
        mirror.close(Ending(summary=None, report=None, complete=False), stop=stop)
