"""Signals end a session: the first politely and at once, the next as usual."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from orchestrator.execution.stop import SAVING, SIGNALS, Stop, stop_on_signals
from tasks.toy import ToyEngine


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_to_end_and_says_so_once(number):
    before, said, stop = signal.getsignal(number), list[str](), Stop()
    with stop_on_signals(stop, said.append):
        assert not stop
        signal.raise_signal(number)
        assert stop.interrupted
        wait_for(lambda: said)
    assert said == [SAVING]
    assert signal.getsignal(number) == before
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_a_second_ctrl_c_is_one_as_usual():
    stop = Stop()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop


def test_a_message_that_cannot_be_shown_does_not_matter():
    def gone(message: str) -> None:
        raise OSError("the terminal is gone")

    stop = Stop()
    with stop_on_signals(stop, gone):
        signal.raise_signal(signal.SIGHUP)
        assert stop


def test_under_nohup_a_dropped_connection_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop_on_signals(stop):
            signal.raise_signal(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


DEAF = """
import hashlib
from orchestrator.execution import stop
stop.DROP_SECONDS = 0.1
with stop.stop_on_signals(stop.Stop(), lambda line: print(line, flush=True)):
    print("deaf", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
"""A step in which Python handles no signal for minutes."""


def test_both_are_heard_during_a_long_step():
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == f"{SAVING}\n"
        process.send_signal(signal.SIGINT)
        # The second ends it in the step, where only a thread hears it, or in the moment before, as any Ctrl-C does.
        assert process.wait(timeout=60) in (130, -signal.SIGINT)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_saves_what_is_in_flight(toy_sweep, tmp_path, capsweep, monkeypatch, number):
    steps, step, run = list[int](), ToyEngine.step, tmp_path / "run"

    def signalled_step(engine: ToyEngine) -> list:
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(number)
        return step(engine)

    monkeypatch.setattr(ToyEngine, "step", signalled_step)
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {steps: 8}\n")
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
    assert (ended.returncode, len(steps)) == (130, 3)
    assert ended.stdout.count(SAVING) == 1
    assert len(list((run / "snapshots").iterdir())) == 1
