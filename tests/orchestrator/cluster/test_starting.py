"""Where no Ray can start, one line says why and what to do, at once."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cluster.starting import FEWEST_HANDLES, prepare_to_start
from orchestrator.errors import BadInput


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a shorter path than pytest's, as home and for Ray."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("HOME", folder)
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        yield Path(folder)


def why() -> str:
    with pytest.raises(BadInput) as refused:
        prepare_to_start()
    message = str(refused.value)
    assert "\n" not in message
    assert "RAY_TMPDIR" in message
    assert "--inline" in message
    return message


def test_what_is_tried_leaves_nothing_behind(short):
    assert prepare_to_start() == short / f"capsweep-{os.geteuid()}" / "ray"
    assert list((short / f"capsweep-{os.geteuid()}").iterdir()) == []


@pytest.mark.parametrize("length", [60, 150])
def test_a_long_path(short, monkeypatch, length):
    monkeypatch.setenv("RAY_TMPDIR", str(short / ("a" * length)))
    assert "no socket can be made at" in why()


@pytest.mark.parametrize("place", ["/proc/none", "file", "/dev/null"])
def test_a_folder_that_cannot_be_made(short, monkeypatch, place):
    (short / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(short / place))
    assert place in why()


def test_a_full_disk():
    # A file of this process may have 1 MB, which ends a write as a full disk does.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert "does not take the 20 MB that Ray needs" in why()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_home_that_cannot_be_written_to(monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    message = why()
    assert "its token cannot be written" in message
    assert "RAY_AUTH_TOKEN" in message


def test_no_home(monkeypatch):
    """As in a container whose user is a mere number."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert "its token cannot be written (this user has no home, and HOME is not set)" in why()


def test_few_file_handles_end_the_command_in_a_line(toy_sweep, tmp_path):
    few = FEWEST_HANDLES // 8
    command = f"ulimit -n {few}; exec {sys.executable} -m orchestrator.cli run {toy_sweep} --run-dir run"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert f"a process may open {few} files here" in line
