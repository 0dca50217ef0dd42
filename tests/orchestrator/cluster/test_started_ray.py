"""A Ray that capsweep starts is shut to others: it listens on loopback, and its dashboard wants a token."""

import contextlib
import os
import signal
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.xdist_group("ray")


def listening(processes: Iterable[psutil.Process]) -> set[str]:
    """Addresses at which these processes listen."""
    found: set[str] = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = process.net_connections("tcp")
            found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "ray::EngineActor" in " ".join(process.cmdline())
    return False


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that everybody may enter, and a folder for Ray in it; files get the modes of most users."""
    before = os.umask(0o022)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("HOME", folder)
        monkeypatch.setenv("RAY_TMPDIR", folder)
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        yield Path(folder)
    os.umask(before)


def read_by_nobody(path: Path) -> "subprocess.CompletedProcess[str]":
    """What another user of this machine reads."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "find", str(path), "-type", "f"]
    return subprocess.run(other, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net to see who listens")
@pytest.mark.slow
def test_a_ray_that_is_started_here_is_shut_to_others(toy_sweep, tmp_path, start, home):
    toy_sweep.write_text(toy_sweep.read_text() + "recipe: {step_seconds: 0.2, steps: 40, slots: 2}\n")
    process = start("run", toy_sweep, "--run-dir", tmp_path / "run")
    try:
        assert process.stdout is not None
        dashboard = next(line for line in process.stdout if "dashboard:" in line).split()[1]
        driver, deadline = psutil.Process(process.pid), time.monotonic() + 120
        while not any(map(is_engine, begun := driver.children(recursive=True))):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no engine"
            time.sleep(0.05)
        found = listening([driver, *begun])
        assert len(found) >= 1
        # 127.0.0.1, also as seen by sockets of IPv6.
        assert found <= {"127.0.0.1", "::ffff:127.0.0.1"}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=10)
        shut = [home / ".ray", home / f"capsweep-{os.geteuid()}"]
        assert [stat.S_IMODE(path.stat().st_mode) for path in shut] == [0o700, 0o700]
        assert (shut[1] / "ray" / "session_latest" / "logs").is_dir()
        token = home / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        if os.geteuid() == 0:
            for path in (*shut, token):
                assert "Permission denied" in read_by_nobody(path).stderr
        # It is in no log either, which somebody may send to somebody.
        logs = [path for path in shut[1].rglob("*") if path.is_file()]
        assert len(logs) > 3
        assert not [path for path in logs if token.read_bytes() in path.read_bytes()]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
