"""A tracker's process, as the thread sees it that talks to it.

Knows nothing of trackers or runs.
"""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class TrackerError(Exception):
    """A tracker did not take what it was sent, in one line."""


class Channel:
    """Sends requests to a process, one after the other."""

    def __init__(self, command: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        # A session of its own: Ctrl-C in a terminal is for the driver alone.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="tracker's answers", daemon=True).start()

    def ask(self, request: Mapping[str, Any], *, slow_after: float, on_slow: Callable[[], None]) -> dict[str, Any]:
        """Send a request and wait for its answer; `on_slow` is called once if there is none after `slow_after` seconds.

        Raises:
            TrackerError: when the tracker did not do it, or the process is gone.
        """
        assert self._process.stdin is not None, "a pipe was asked for"
        with contextlib.suppress(OSError, ValueError):  # it is gone, which reading finds out
            print(json.dumps(request), file=self._process.stdin, flush=True)
        try:
            line = self._answers.get(timeout=slow_after)
        except queue.Empty:
            on_slow()
            line = self._answers.get()
        if not line:
            self._answers.put("")  # for whoever asks again
            raise TrackerError(f"its process ended with code {self._process.wait()}{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise TrackerError(answer["error"])
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None, "a pipe was asked for"
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((f" ({line.strip()[:300]})" for line in reversed(lines) if line.strip()), "")

    def close(self, *, wait_seconds: float) -> None:
        """Let the process end; it is killed if it has not ended after `wait_seconds`. Not while a request is open."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=wait_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once; an open request then raises TrackerError."""
        self._process.kill()
        self._process.wait()
