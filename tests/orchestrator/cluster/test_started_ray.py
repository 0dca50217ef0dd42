"""A Ray that capsweep starts is shut to others: it listens on loopback, and its dashboard wants a token."""

import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import write_sweep
from tests.chaos.harness import begin, descendants, end, wait_until

LISTENING = "0A"


def listening(pids: list[int]) -> set[str]:
    """Addresses at which these processes listen, in the hexadecimal notation of /proc."""
    sockets: set[str] = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
    return {address for address, inode in entries() if inode in sockets}


def entries() -> Iterator[tuple[str, str]]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                yield fields[1].partition(":")[0], fields[9]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net to see who listens")
def test_a_ray_that_is_started_here_is_shut_to_others(tmp_path):
    spec = write_sweep(tmp_path, texts=12, recipe={"step_seconds": 0.2, "steps": 40, "slots": 2})
    process = begin("run", spec, "--run-dir", tmp_path / "run")
    try:
        assert process.stdout is not None
        dashboard_line = next(line for line in process.stdout if "dashboard:" in line)
        wait_until(lambda: descendants(process.pid, b"ray::EngineActor"), process)
        found = listening([process.pid, *descendants(process.pid, b"ray")])
        assert len(found) >= 1
        # 127.0.0.1, also as seen by sockets of IPv6.
        assert found <= {"0100007F", "0000000000000000FFFF00000100007F"}
        dashboard = dashboard_line.split()[1]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=10)
    finally:
        process.send_signal(signal.SIGINT)
        end(process)
    assert process.returncode == 130
