"""What a tracker can do to a run: processes that answer, fail, die or hang, in place of a tracker's."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.store.files import open_files
from orchestrator.tracking import line as lines
from orchestrator.tracking.line import Ending, Line, Mirrored
from orchestrator.tracking.mirror import WORKER
from orchestrator.tracking.points import Point
from orchestrator.tracking.worker import in_short

BEGINS = """
import json, sys, time
def say(answer): print(json.dumps(answer), flush=True)
def heard(request): print(json.dumps(request), file=open("heard", "a"), flush=True)
for text in sys.stdin:
    request = json.loads(text)
    heard(request)
    do = request["do"]
"""
ANSWERS = 'say({"run_id": request["run_id"] or "r1", "url": "http://there/r1"} if do == "begin" else {})'
WORKS = f"{BEGINS}    {ANSWERS}"
REFUSES = f'{BEGINS}    say({{"error": "ServerError: no room"}})'
DIES_ONCE = f"""{BEGINS}
    if do == "log" and "died" not in open("heard").read():
        heard("died")
        sys.exit("segmentation fault")
    {ANSWERS}"""
HANGS = f"{BEGINS}    time.sleep(600)"
PAGE = Ending(summary={"searches": 2.0}, report="page.html", complete=True)


def points(*names: str) -> list[Point]:
    return [Point(values={"capacity_tokens/m k1": 1.0}, labels={"search_id": name}) for name in names]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Line]]:
    """Begin a line to a process that runs this code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lines, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # a busy disk may take a second for each
    made: list[Line] = []

    def new(code: str, project: str = "p") -> Line:
        run = Mirrored(
            files=open_files(str(tmp_path / "run")), folder="f", name="run", config={}, on_message=said.append
        )
        made.append(Line("wandb", {"project": project, "mode": "offline"}, run, (sys.executable, "-Sc", code)))
        return made[-1]

    said = MESSAGES
    said.clear()
    yield new
    for each in made:
        each.finish(Ending(summary=None, report=None, complete=False))
        each.kill()
        assert not each.is_alive()


MESSAGES: list[str] = []


def heard(what: str) -> list[dict]:
    requests = [json.loads(text) for text in Path("heard").read_text().splitlines()]
    return [request for request in requests if request != "died" and request["do"] == what]


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_everything_is_sent_once_and_the_run_is_ended(begin, tmp_path):
    line = begin(WORKS)
    line.offer(points("a", "b"))
    line.finish(PAGE)
    line.join(60)
    assert not line.is_alive()
    assert line.notes() == []
    assert MESSAGES == ["tracking.wandb: http://there/r1"]
    sent = [point for request in heard("log") for point in request["points"]]
    assert [(point["progress"], point["labels"]["search_id"]) for point in sent] == [(1, "a"), (2, "b")]
    assert heard("conclude")[0]["report"] == "page.html"
    assert heard("end") == [{"do": "end", "complete": True}]
    assert json.loads((tmp_path / "run/tracking/wandb.json").read_text())["sent"] == ["a", "b"]


def test_the_next_session_continues_the_run_and_its_count(begin):
    for names in (("a",), ("b",)):
        line = begin(WORKS)
        line.offer([point for point in points(*names) if point.search_id not in line.known])
        line.finish(PAGE)
        line.join(60)
    assert [request["run_id"] for request in heard("begin")] == [None, "r1"]
    assert [request["points"][0]["progress"] for request in heard("log")] == [1, 2]
    assert line.known == {"a", "b"}


def test_another_project_gets_a_run_of_its_own_with_all_points(begin):
    for project in ("p", "q"):
        line = begin(WORKS, project)
        line.offer([point for point in points("a") if point.search_id not in line.known])
        line.finish(PAGE)
        line.join(60)
    assert [request["run_id"] for request in heard("begin")] == [None, None]
    assert len(heard("log")) == 2


def test_a_long_error_keeps_its_end_which_tells_the_reason():
    wrapped = requests.ConnectionError(f"API request to http://there failed with {'x' * 900} Connection refused)")
    said = in_short(wrapped)
    assert said.startswith("ConnectionError: API request to http://there failed")
    assert said.endswith("xx Connection refused)")
    assert len(said) < 400
    assert in_short(ValueError("two\n lines")) == "ValueError: two lines"


def test_an_error_is_said_once_and_counted(begin):
    line = begin(REFUSES)
    line.offer(points("a", "b"))
    wait_until(lambda: Path("heard").exists() and len(heard("begin")) >= 3)
    line.finish(PAGE)
    line.join(60)
    (message,) = MESSAGES
    assert message.startswith("tracking.wandb: ServerError: no room")
    (note,) = line.notes()
    assert "0 of 2 finished searches were sent, and no summary; `capsweep resume" in note
    assert int(note.partition("Errors: ")[2].partition(",")[0]) >= 3


def test_a_process_that_dies_is_begun_again_and_nothing_is_lost(begin):
    line = begin(DIES_ONCE)
    line.offer(points("a", "b"))
    wait_until(lambda: line.sent == {"a", "b"})
    line.finish(PAGE)
    line.join(60)
    assert any("its process ended with code 1 (segmentation fault)" in message for message in MESSAGES)
    assert [request["run_id"] for request in heard("begin")] == [None, "r1"]
    assert line.known == {"a", "b"}
    assert "everything was sent in the end. Errors: 1" in line.notes()[0]


def test_a_tracker_that_hangs_is_said_and_costs_nobody_time(begin, monkeypatch):
    monkeypatch.setattr(lines, "SLOW_SECONDS", 0.1)
    line = begin(HANGS)  # a request that waited for its answer would last for ten minutes
    for number in range(1000):
        line.offer(points(f"s{number}"))
    wait_until(lambda: MESSAGES)
    line.finish(PAGE)
    line.kill()
    assert not line.is_alive()
    assert any("no answer for" in message for message in MESSAGES)
    assert "0 of 1,000 finished searches were sent" in line.notes()[0]
    assert line.notes()[0].endswith("Errors: 1, the last: it took too long at the end")


def test_a_folder_that_cannot_be_written_is_an_error_of_the_tracker_alone(begin, tmp_path):
    (tmp_path / "run").write_text("a file")
    line = begin(WORKS)
    line.offer(points("a"))
    wait_until(lambda: MESSAGES)
    line.finish(PAGE)
    line.join(60)
    assert not line.is_alive()
    assert line.notes()


def test_a_process_whose_driver_dies_closes_its_run_and_ends(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    begin = {"do": "begin", "settings": {"folder": None}, "run_id": None, "name": "run", "folder": str(tmp_path)}
    point = {"progress": 1, "values": {"capacity_tokens/m k1": 7.0}, "labels": {"search_id": "a"}}
    requests = [{**begin, "config": {}}, {"do": "log", "points": [point]}]
    command = [sys.executable, "-c", WORKER, json.dumps(sys.path), "tensorboard"]
    ended = subprocess.run(command, input="\n".join(map(json.dumps, requests)), text=True, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert "error" not in ended.stdout
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in found.Scalars("capacity_tokens/m k1")] == [7.0]
