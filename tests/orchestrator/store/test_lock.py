"""Who may write to a run: one session at a time, whoever was killed, frozen or asked to follow.

Long, as each way to take or lose a lock has its test here.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator.errors import BadInput
from orchestrator.store import lock
from orchestrator.store.claims import LOCK_FILE, claim_name, newest_claim, read_holder
from orchestrator.store.files import Files, open_files
from orchestrator.store.held import HeldFiles, LostLockError
from orchestrator.store.holder import STALE_SECONDS, Holder, is_gone, parse_holder, seems_to_live, this_process
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.lock import STOP_FILE, RunLock, ask_to_stop

NO_PID = 2**22 + 1
"""Above the highest pid that Linux gives."""


IN_A_NAMESPACE = """
import sys, pathlib
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.lock import RunLock
RunLock(LocalFiles(pathlib.Path(sys.argv[1])), "there").take()
print("taken", flush=True)
input()
"""


@pytest.fixture(params=["folder", "objects"])
def files(request, tmp_path) -> Files:
    return LocalFiles(tmp_path) if request.param == "folder" else open_files(f"memory://{tmp_path.name}")


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def other(**fields: Any) -> Holder:
    """Another session of this process, that beats."""
    return replace(this_process("other", heartbeat=time.time()), **fields)


def taken(files: Files, session_id: str = "mine", **options: bool) -> tuple[RunLock, HeldFiles]:
    held = RunLock(files, session_id)
    return held, held.take(**options)


def holder_of(files: Files) -> str | None:
    holder = read_holder(files)
    return holder and holder.session_id


def test_a_process_that_lives_keeps_it(files):
    first, _ = taken(files, "first")
    with pytest.raises(BadInput, match=f"process {os.getpid()} on"):
        RunLock(files, "second").take()
    first.release()
    assert read_holder(files) is None
    assert not files.exists(LOCK_FILE)


@pytest.mark.parametrize("claimed", [{"ended": True}, {"pid": NO_PID}])
def test_one_that_only_the_lock_names_keeps_it(files, quick, claimed):
    """A session of an earlier version makes no claim."""
    files.write(claim_name(1), other(session_id="before", **claimed).as_json())
    files.write(LOCK_FILE, other(host="elsewhere", boot_id=None, pid_namespace=None).as_json())
    with pytest.raises(BadInput, match="on elsewhere"):
        RunLock(files, "mine").take()
    files.write(LOCK_FILE, other(host="elsewhere", heartbeat=0.0).as_json())
    mine, held = taken(files)
    held.check()
    mine.release()


def test_after_a_session_that_ended_the_next_one_does_not_wait(files, monkeypatch):
    taken(files, "first")[0].release()
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: pytest.fail("it waited"))
    second, held = taken(files, "second")
    held.check()
    second.release()


class TestWhoIsGone:
    """Found out at once where the pid can be seen from here; elsewhere only silence says so."""

    CASES: ClassVar[dict[str, tuple[dict[str, Any], bool]]] = {
        "its pid is free": ({"pid": NO_PID}, True),
        "its pid is ours": ({}, False),
        "its pid is free, and another container had it": ({"pid": NO_PID, "pid_namespace": "pid:[1]"}, False),
        "its pid is free, and another machine of this name had it": ({"pid": NO_PID, "boot_id": "another"}, False),
        "its pid is free, and another host had it": ({"pid": NO_PID, "host": "elsewhere"}, False),
        "its pid is free, and nothing can be known": (
            {"pid": NO_PID, "boot_id": "", "pid_namespace": ""},
            False,
        ),
        "a lock of an earlier version": ({"pid": NO_PID, "boot_id": None, "pid_namespace": None}, True),
        "a living one of an earlier version": ({"boot_id": None, "pid_namespace": None}, False),
        "a container that was silent for long": ({"pid_namespace": "pid:[1]", "heartbeat": 0.0}, True),
        "another machine that was silent for long": ({"host": "elsewhere", "heartbeat": 0.0}, True),
        "another machine whose clock is years ahead": ({"host": "elsewhere", "heartbeat": 4e9}, True),
        "a container whose clock was set back since": ({"pid_namespace": "pid:[1]", "heartbeat": 4e9}, True),
        # A process of that number runs here, but its last heartbeat is old: another one has the number now.
        "its pid was given again": ({"heartbeat": 0.0}, True),
    }

    @pytest.mark.skipif(sys.platform != "linux", reason="boot ids and PID namespaces are Linux's")
    @pytest.mark.parametrize("by", [claim_name(3), LOCK_FILE])
    @pytest.mark.parametrize("case", CASES)
    def test_is_followed(self, files, quick, case, by):
        fields, gone = self.CASES[case]
        holder = other(**fields)
        files.write(by, holder.as_json())
        mine = RunLock(files, "mine")
        if gone:
            mine.take().check()
            mine.release()
            return
        with pytest.raises(BadInput, match=f"process {holder.pid} on {holder.host}"):
            mine.take()
        assert files.read(by) == holder.as_json()

    def test_where_it_cannot_be_known_nobody_is(self, monkeypatch):
        monkeypatch.setattr("orchestrator.store.holder.PID_NAMESPACE", "/nowhere")
        assert this_process("mine", heartbeat=0.0).pid_namespace == ""
        assert is_gone(other(pid=NO_PID)) == (sys.platform != "linux")

    def test_a_session_in_a_pid_namespace_of_its_own_lives(self, tmp_path):
        """As in two containers of one host name: its pid means nothing here."""
        enter = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
        if subprocess.run([*enter, "true"], capture_output=True).returncode:
            pytest.skip("needs the right to make a PID namespace")
        command = [*enter, sys.executable, "-c", IN_A_NAMESPACE, str(tmp_path)]
        there = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert there.stdout is not None
        try:
            assert there.stdout.readline() == "taken\n"
            holder = read_holder(LocalFiles(tmp_path))
            assert holder is not None
            assert holder.pid_namespace != this_process("here", heartbeat=0.0).pid_namespace
            # Its pid, 1, runs here as well: take another, as a longer life in there would have given.
            LocalFiles(tmp_path).write(LOCK_FILE, replace(holder, pid=NO_PID).as_json())
            with pytest.raises(BadInput, match="another session writes here"):
                RunLock(LocalFiles(tmp_path), "here").take()
        finally:
            there.communicate("\n", timeout=30)


@pytest.mark.parametrize("clock", [0, 4_000_000_000])
def test_a_heart_that_beats_by_another_clock_lives(files, monkeypatch, clock):
    files.write(claim_name(1), other(host="elsewhere", heartbeat=float(clock)).as_json())
    beats = iter(range(clock + 1, clock + 9))

    def beat(seconds: float) -> None:
        files.write(LOCK_FILE, other(host="elsewhere", heartbeat=float(next(beats))).as_json())

    monkeypatch.setattr(lock.time, "sleep", beat)
    with pytest.raises(BadInput, match="elsewhere"):
        RunLock(files, "mine").take()


def test_one_that_ends_while_it_is_watched_is_followed(files, quick, monkeypatch):
    holder = other(host="elsewhere", heartbeat=0.0)
    files.write(claim_name(1), holder.as_json())
    monkeypatch.setattr(lock.time, "sleep", lambda s: files.write(claim_name(1), replace(holder, ended=True).as_json()))
    mine, held = taken(files)
    held.check()
    mine.release()


class TestTwoThatFollow:
    def test_the_quicker_has_it(self, files, quick, monkeypatch):
        files.write(claim_name(1), other(pid=NO_PID, host="elsewhere", heartbeat=0.0).as_json())
        quicker = RunLock(files, "quicker")
        sleep = time.sleep

        def meanwhile(seconds: float) -> None:
            """While the slower looks whether the lock changes."""
            monkeypatch.setattr(lock.time, "sleep", sleep)
            quicker.take(take_over=True)

        monkeypatch.setattr(lock.time, "sleep", meanwhile)
        with pytest.raises(BadInput, match=f"process {os.getpid()} on"):
            RunLock(files, "slower").take()
        assert holder_of(files) == "quicker"
        quicker.release()

    def test_one_of_many_at_once(self, files, quick, monkeypatch):
        # fsspec's store in RAM looks for a claim and makes it in two steps: time for a thread that was held up between.
        monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.5)
        files.write(claim_name(1), other(pid=NO_PID, host="elsewhere", heartbeat=0.0).as_json())
        rivals = [RunLock(files, f"rival {number}") for number in range(6)]
        got: list[tuple[RunLock, HeldFiles]] = []

        def take(rival: RunLock) -> None:
            try:
                got.append((rival, rival.take()))
            except BadInput:
                return

        threads = [threading.Thread(target=take, args=[rival]) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ((winner, held),) = got
        held.check()
        winner.release()

    def test_a_store_that_lost_the_answer_to_a_claim(self, files, quick, monkeypatch):
        """It was made, and the second try is refused."""
        create = type(files).create

        def twice(self: Files, name: str, content: bytes) -> bool:
            return create(self, name, content) and create(self, name, content)

        monkeypatch.setattr(type(files), "create", twice)
        mine, held = taken(files)
        held.check()
        mine.release()

    def test_a_store_that_does_not_refuse_a_second_claim(self, files, quick, monkeypatch):
        """Some know no `create`: the last to write has it, and the other finds out before it writes."""

        def overwrite(self: Files, name: str, content: bytes) -> bool:
            self.write(name, content)
            return True

        monkeypatch.setattr(type(files), "create", overwrite)
        monkeypatch.setattr(lock, "newest_claim", lambda files: replace(newest_claim(files), number=0, holder=None))
        with pytest.raises(OSError, match="listing"):
            RunLock(files, "mine").take()


class TestALostRun:
    CHANGES: ClassVar[dict[str, Callable[[HeldFiles], object]]] = {
        "write": lambda held: held.write("probes/a.parquet", b"rows"),
        "create": lambda held: held.create("new", b"content"),
        "move": lambda held: held.move("sweep.yaml", "damaged/sweep.yaml"),
        "remove": lambda held: held.remove("sweep.yaml"),
        "remove_unfinished": lambda held: held.remove_unfinished(),
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_not_changed(self, files, quick, change):
        files.write("sweep.yaml", b"sweep")
        first, held = taken(files, "first")
        second, _ = taken(files, "second", take_over=True)
        with pytest.raises(LostLockError, match=f"session first has lost this run; .* process {os.getpid()} on"):
            self.CHANGES[change](held)
        first.release()
        assert files.names("", suffix=".yaml") == ["sweep.yaml"]
        assert files.names("probes", suffix="") == []
        assert holder_of(files) == "second"
        assert not files.exists("new")
        second.release()

    @pytest.mark.parametrize("remove", ["all of it", "its claims"])
    def test_is_not_made_again(self, tmp_path, quick, remove):
        run = tmp_path / "run"
        first, held = taken(LocalFiles(run), "first")
        time.sleep(0.03)
        # At once: to remove file by file, beside a heart that beats, would meet new ones.
        gone = tmp_path / "gone"
        (run if remove == "all of it" else run / "sessions").rename(gone)
        shutil.rmtree(gone)
        time.sleep(0.03)
        with pytest.raises(LostLockError, match="its claim is gone"):
            held.write("probes/a.parquet", b"rows")
        first.release()
        assert not (run / "probes").exists()
        assert run.exists() == (remove == "its claims")

    def test_of_another_run_in_its_place(self, files, quick, monkeypatch):
        """The folder was removed and a new run was begun in it: its first session has the same number."""
        monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 600)  # one in between would make the lock again
        first, held = taken(files, "first")
        files.remove(claim_name(1), LOCK_FILE)
        second, _ = taken(files, "second")
        with pytest.raises(LostLockError):
            held.write("probes/a.parquet", b"rows")
        first.release()
        assert holder_of(files) == "second"
        second.release()

    def test_ends_the_session(self, files, quick):
        told = threading.Event()
        first = RunLock(files, "first", asked_to_stop=told.set)
        first.take()
        second, _ = taken(files, "second", take_over=True)
        assert told.wait(60)
        first.release()
        second.release()

    def test_a_request_to_stop_is_for_whom_it_names(self, files, quick):
        first, _ = taken(files, "first")
        second, _ = taken(files, "second", take_over=True)
        told = threading.Event()
        second._asked_to_stop = told.set
        ask_to_stop(files)
        first.release()
        assert told.wait(60)
        second.release()
        assert not files.exists(STOP_FILE)


def test_a_session_whose_process_is_gone_is_not_asked_to_stop(files):
    """`capsweep stop` would wait minutes for it."""
    files.write(claim_name(1), other(pid=NO_PID).as_json())
    assert ask_to_stop(files) is None
    assert not files.exists(STOP_FILE)


class TestDamage:
    """A lock that cannot be read costs nobody the run, and ends no command in a traceback."""

    NO_TIMES = ("1e300", "1e18", "-1e18", "Infinity", "NaN")
    CONTENTS = (
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"session_id": "a", "host": "b", "pid": -1, "heartbeat": 0}',
        b'{"session_id": "a", "host": "b", "pid": 99999999999, "heartbeat": 0}',
        b'{"session_id": "a", "host": "b", "pid": "1", "heartbeat": 0}',
        b'{"session_id": "a", "host": "b", "pid": 1, "heartbeat": "soon"}',
        b'{"session_id": 7, "host": "b", "pid": 1, "heartbeat": 0}',
        *(f'{{"session_id": "a", "host": "b", "pid": 1, "heartbeat": {time}}}'.encode() for time in NO_TIMES),
    )

    @pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
    def test_nobody_is_read(self, content):
        assert parse_holder(content) is None

    @pytest.mark.parametrize("name", [claim_name(1), LOCK_FILE])
    def test_the_run_can_be_taken(self, files, quick, name):
        files.write(name, b"nobody")
        mine, held = taken(files)
        held.check()
        mine.release()

    def test_of_the_lock_a_living_session_mends(self, files, quick):
        mine, held = taken(files)
        files.write(LOCK_FILE, b"nobody")
        assert holder_of(files) == "mine"
        deadline = time.monotonic() + 60
        while parse_holder(files.read(LOCK_FILE)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.check()
        mine.release()


def test_what_other_programs_show_of_a_lock(files):
    mine, _ = taken(files)
    shown = json.loads(files.read(LOCK_FILE))
    assert shown["pid"] == os.getpid()
    assert {"session_id", "host", "heartbeat", "boot_id", "pid_namespace"} <= shown.keys()
    now = time.time()
    assert seems_to_live(Holder(**shown), now)
    assert not seems_to_live(Holder(**shown), now + STALE_SECONDS + 1)
    mine.release()


def frozen(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.chaos.freezing", arguments[0], str(folder), *arguments[1:]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
@pytest.mark.parametrize("probes", ["locks", "linked"])
def test_a_session_that_was_frozen_changes_nothing_of_the_next(tmp_path, probes):
    """Frozen by SIGSTOP between its look and its write: of the claim, of heartbeats, of rows, and elsewhere."""
    moments = {
        "os.link sessions/000001[.]json 1": {2},
        "os.rename lock 2": {1},
        "open [.]lock[.].* 2": {1},
        "os.rename probes/.* 2": {1},
        "open sessions/000001[.]json 5": {1},
        "os.rename sessions/000001[.]json 1": {0},
        **({} if probes == "locks" else {"open probes/.* 2": {1}}),
    }
    found = frozen(tmp_path, probes, *moments)
    for one in found:
        assert one["frozen"], one
        assert one["changed"] == [], one
        assert one["other"] == 0, one
        assert one["code"] in moments[one["moment"]], one
    assert len(found) == len(moments)
