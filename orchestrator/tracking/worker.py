"""The process of one tracker: reads requests as lines of JSON, and answers each with a line.

Ends with its standard input, as after the death of the driver. Knows nothing of searches, sweeps or the run directory.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any, TextIO

from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.trackers import TRACKERS

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "WANDB_SILENT": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Variables by which the libraries neither report their use nor print, and give up soon: the driver tries again."""
MOST_LETTERS = 150
"""Of the beginning and of the end of an error."""


def main(name: str) -> None:
    """Serve the tracker of this name."""
    # These are for the driver, which ends this process when it has sent everything. Ray signals every process of a job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)
    answers = _take_stdout()
    tracker = TRACKERS[name]()
    is_open = False
    for line in sys.stdin:
        request = json.loads(line)
        ends = request["do"] == "end"
        try:
            answer = _answer(tracker, request)
        except Exception as error:
            answer = {"error": in_short(error)}
        is_open = not ends and (is_open or "error" not in answer)
        print(json.dumps(answer), file=answers, flush=True)
    if is_open:  # the driver died
        with contextlib.suppress(Exception):
            tracker.end(complete=False)


def in_short(error: Exception) -> str:
    """An error in a line. A long one keeps its end, too: libraries wrap the reason in what they were about to do."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 2 * MOST_LETTERS else f"{line[:MOST_LETTERS]} .. {line[-MOST_LETTERS:]}"


def _take_stdout() -> TextIO:
    """A stream to the driver; what libraries print goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(tracker: Tracker, request: dict[str, Any]) -> dict[str, Any]:
    match request.pop("do"):
        case "begin":
            return {"run_id": tracker.begin(**request), "url": tracker.url()}
        case "log":
            for point in request["points"]:
                tracker.log(point["progress"], point["values"], point["labels"])
            tracker.flush()
        case "conclude":
            tracker.conclude(**request)
        case _:
            tracker.end(**request)
    return {}
