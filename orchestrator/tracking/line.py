"""The thread that talks to one tracker, and what it remembers in the run directory.

Knows nothing of searches beyond the ids of their points.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import typed
from orchestrator.redact import redact
from orchestrator.runs.directory import TRACKING_FOLDER
from orchestrator.store.files import Files
from orchestrator.store.held import LostLockError
from orchestrator.tracking.channel import Channel, TrackerError
from orchestrator.tracking.points import Point, summary_page
from tasks.wording import counted

MOST_POINTS = 200
"""Points in one request: what is sent again after a failure."""
SLOW_SECONDS = 60.0
"""A request that takes longer is worth a message. W&B gives up the first one after 90 s."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 600.0
"""Time after a failure before the next attempt, which doubles from failure to failure."""
CLOSE_SECONDS = 5.0
"""Time for a process to end after its tracker has ended."""
PASSING = ("mode", "tags")
"""Settings that do not decide where a run lies."""

OnMessage = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """The run that is mirrored."""

    files: Files
    folder: str
    """Where trackers may keep files."""
    name: str
    """Name of the run."""
    config: Mapping[str, Any]
    """What it does, as JSON."""
    on_message: OnMessage
    """Takes lines for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a tracker gets at the end of a session."""

    summary: Mapping[str, float] | None
    """None if the session ended by an error."""
    report: str | None
    """Path of the page; None if there is none."""
    complete: bool
    """Whether every search was answered."""


class Line(threading.Thread):
    """Sends a session to one tracker. Its run there is that of the sessions before."""

    def __init__(self, name: str, settings: Mapping[str, Any], run: Mirrored, command: Sequence[str]) -> None:
        """Starts the thread. `name` is the tracker's in the sweep file, and `command` starts its process."""
        super().__init__(name=f"tracker {name}", daemon=True)
        self.tracker, self._settings, self._run, self._command = name, dict(settings), run, command
        self._place = {key: value for key, value in settings.items() if key not in PASSING}
        self._file = f"{TRACKING_FOLDER}/{name}.json"
        self._changed = threading.Condition()
        self._waiting: dict[str, Point] = {}
        self._ending: Ending | None = None
        self._channel: Channel | None = None
        self._run_id: str | None = None
        self._sent: dict[str, None] = {}
        self._errors: list[str] = []
        self._concluded = self._is_killed = self._was_slow = False
        self._remember()
        self.start()

    @property
    def sent(self) -> Collection[str]:
        """The searches whose points are sent."""
        with self._changed:
            return set(self._sent)

    @property
    def known(self) -> Collection[str]:
        """The searches whose points are sent, or wait to be sent."""
        with self._changed:
            return self._sent.keys() | self._waiting.keys()

    def offer(self, points: Sequence[Point]) -> None:
        """Send these points when the tracker takes them."""
        with self._changed:
            self._waiting.update({point.search_id: point for point in points})
            self._changed.notify()

    def finish(self, ending: Ending) -> None:
        """End the run there once everything is sent; only the first call counts."""
        with self._changed:
            self._ending = self._ending or ending
            self._changed.notify()

    def kill(self) -> None:
        """End the process if it is still there."""
        if self.is_alive() and (channel := self._channel) is not None:
            self._is_killed = True
            self._errors.append("it took too long at the end")
            channel.kill()
            self.join(CLOSE_SECONDS)

    def notes(self) -> list[str]:
        """What a user should know at the end: nothing if everything was sent at once."""
        if not self._errors:
            return []
        errors = f"Errors: {len(self._errors)}, the last: {self._errors[-1]}"
        if self._concluded:
            return [f"tracking.{self.tracker}: everything was sent in the end. {errors}"]
        num_finished = len(self._sent) + len(self._waiting)
        return [
            f"tracking.{self.tracker}: {len(self._sent)} of {counted(num_finished, 'finished search')} were sent, and "
            f"no summary; `capsweep resume {typed(self._run.files.url)}` sends the rest. {errors}"
        ]

    def run(self) -> None:
        """The thread."""
        pause = PAUSE_SECONDS
        try:
            while not self._concluded:
                try:
                    self._serve()
                except LostLockError:
                    raise
                except Exception as error:  # whatever it is, it is no fault of the run
                    self._note(error)
                    with self._changed:
                        if self._ending is not None:
                            return
                        self._changed.wait_for(lambda: self._ending is not None, timeout=pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        except LostLockError:  # the session says so
            return
        finally:
            if self._channel is not None:
                self._channel.close(wait_seconds=CLOSE_SECONDS)

    def _serve(self) -> None:
        """Send what there is, and the end of the session if it has come; raises TrackerError when that fails."""
        if self._channel is None:
            self._begin()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending is not None)
            points = list(self._waiting.values())[:MOST_POINTS]
        if points:
            self._send(points)
        elif (ending := self._ending) is not None:
            if ending.summary is not None:
                page = summary_page(ending.summary)
                self._ask("conclude", summary=dict(ending.summary), page=page, report=ending.report)
            self._ask("end", complete=ending.complete)
            self._concluded = True

    def _begin(self) -> None:
        self._channel = Channel(self._command)
        run = self._run
        begun = self._ask(
            "begin", settings=self._settings, run_id=self._run_id, name=run.name, folder=run.folder, config=run.config
        )
        if begun["url"]:
            self._run.on_message(f"tracking.{self.tracker}: {begun['url']}")
        if self._run_id != begun["run_id"]:
            self._run_id = begun["run_id"]
            self._store()

    def _send(self, points: Sequence[Point]) -> None:
        first = len(self._sent) + 1
        sent = [
            {"progress": number, "values": dict(point.values), "labels": dict(point.labels)}
            for number, point in enumerate(points, first)
        ]
        self._ask("log", points=sent)
        with self._changed:
            for point in points:
                self._sent[point.search_id] = None
                del self._waiting[point.search_id]
        self._store()

    def _ask(self, what: str, **request: Any) -> dict[str, Any]:
        assert self._channel is not None, "begun"
        try:
            return self._channel.ask({"do": what, **request}, slow_after=SLOW_SECONDS, on_slow=self._note_slow)
        except TrackerError:
            # Whatever state it is in: the next attempt begins with a new process, and continues the same run.
            self._channel.kill()
            self._channel = None
            raise

    def _note_slow(self) -> None:
        if self._was_slow:
            return
        self._was_slow = True
        self._run.on_message(
            f"tracking.{self.tracker}: no answer for {SLOW_SECONDS:.0f} s. The run goes on; what is not sent waits."
        )

    def _note(self, error: Exception) -> None:
        """Say the first error at once; the others are counted."""
        if self._is_killed:
            return
        self._errors.append(redact(" ".join(str(error).split())))
        if len(self._errors) == 1:
            said = self._errors[0].rstrip(".")
            self._run.on_message(f"tracking.{self.tracker}: {said}. The run goes on; what is not sent is tried again.")

    def _store(self) -> None:
        """Keep what the next session needs; raises OSError when that is impossible."""
        known = {"place": self._place, "run_id": self._run_id, "sent": list(self._sent)}
        self._run.files.write(self._file, json.dumps(known).encode())

    def _remember(self) -> None:
        """Take over what the session before kept, if the sweep still names the same place."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            known = json.loads(self._run.files.read(self._file))
            if known["place"] == self._place:
                self._run_id, self._sent = known["run_id"], dict.fromkeys(known["sent"])
