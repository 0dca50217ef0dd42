r"""Two machines and a client, as network namespaces of this one: each has its own addresses, ports and loopback.

client 10.77.0.1 --bridge-- head 10.77.0.2
                      \---- worker 10.77.0.3
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

NETWORK = "10.77.0"
HEAD, WORKER, CLIENT = "head", "worker", "client"
ADDRESSES = {CLIENT: f"{NETWORK}.1", HEAD: f"{NETWORK}.2", WORKER: f"{NETWORK}.3"}
DASHBOARD = f"http://{ADDRESSES[HEAD]}:8265"
START_SECONDS = 120
ROOT = Path(__file__).resolve().parents[2]


def why_not() -> str | None:
    """What keeps this machine from having network namespaces; None if it can."""
    if shutil.which("ip") is None:
        return "needs `ip` (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    tried = subprocess.run(["ip", "netns", "add", "capsweep-try"], capture_output=True, text=True)
    if tried.returncode:
        return f"needs network namespaces, which are not to be had here ({tried.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", "capsweep-try"], check=True)
    return None


class TwoNodes:
    """A Ray cluster whose nodes can be started and lost; what was started is ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = {node: f"capsweep-{os.getpid()}-{node}" for node in ADDRESSES}
        self._rays: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "TwoNodes":
        for name in self._names.values():
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        client = self._names[CLIENT]
        _ip("-n", client, "link", "add", "bridge", "type", "bridge")
        _ip("-n", client, "addr", "add", f"{ADDRESSES[CLIENT]}/24", "dev", "bridge")
        _ip("-n", client, "link", "set", "bridge", "up")
        for node in (HEAD, WORKER):
            _ip("-n", client, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", self._names[node])
            _ip("-n", client, "link", "set", node, "master", "bridge", "up")
            _ip("-n", self._names[node], "addr", "add", f"{ADDRESSES[node]}/24", "dev", "eth0")
            _ip("-n", self._names[node], "link", "set", "eth0", "up")
        return self

    def __exit__(self, *raised: object) -> None:
        # Shown where a test fails.
        for log in self._disk(HEAD).glob("session_2*/logs/job-driver-*.log"):
            print(log.name, log.read_text()[-5000:], sep="\n")
        for node in list(self._rays):
            self.lose(node)
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)
        for folder in (self._scratch, self._disk(HEAD), self._disk(WORKER)):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _scratch(self) -> Path:
        return Path(f"/tmp/capsweep-{os.getpid()}")  # short: paths of sockets may have 107 characters

    def _disk(self, node: str) -> Path:
        return Path(f"{self._scratch}-{node}")

    def environment(self) -> Mapping[str, str]:
        """Variables of every process there: a home of its own with a token of its own, and this code."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **inherited,
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
            "RAY_USAGE_STATS_ENABLED": "0",
            # What `ray up` of cluster.yaml sets on the head: a job that is asked to end has rows to save.
            "RAY_JOB_STOP_WAIT_TIME_S": "120",
        }

    def start(self, node: str, *, cpus: int, gpus: int = 0) -> None:
        """Start Ray on the head or the worker, and wait until it answers."""
        command = ["ray", "start", "--block", f"--node-ip-address={ADDRESSES[node]}", f"--num-cpus={cpus}"]
        command.append(f"--num-gpus={gpus}")
        if node == HEAD:
            command += ["--head", "--port=6379", f"--temp-dir={self._scratch}"]
            command += [f"--dashboard-host={ADDRESSES[HEAD]}", "--dashboard-port=8265", "--metrics-export-port=8080"]
        else:
            command.append(f"--address={ADDRESSES[HEAD]}:6379")
        # Each node has a disk of its own at the same place, as machines have.
        self._disk(node).mkdir(exist_ok=True)
        self._scratch.mkdir(exist_ok=True)
        mounted = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', self._disk(node), self._scratch]
        log = (self.folder / f"{node}.log").open("ab")
        self._rays[node] = subprocess.Popen(
            self._within(node, [*map(str, mounted), *command]),
            env=self.environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while self.status().count("node_") < len(self._rays):
            assert time.monotonic() < deadline, (self.folder / f"{node}.log").read_text()
            time.sleep(0.5)

    def status(self) -> str:
        """What `ray status` prints: nodes, what is used, and what is waited for."""
        return self.run("ray", "status", f"--address={ADDRESSES[HEAD]}:6379")

    def lose(self, node: str) -> None:
        """Kill everything that runs on a node, at once."""
        process = self._rays.pop(node)
        for pid in self.processes(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def processes(self, node: str) -> list[int]:
        """What runs in the namespace of a node."""
        output = subprocess.run(
            ["ip", "netns", "pids", self._names[node]], capture_output=True, text=True, check=True
        ).stdout
        return [int(pid) for pid in output.split()]

    def run(self, *command: str, node: str = CLIENT, timeout: float = 300) -> str:
        """What a command prints that runs on a node, or beside the cluster."""
        ran = subprocess.run(
            self._within(node, command),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            cwd=self.folder,
        )
        return ran.stdout + f"\nexit code {ran.returncode}"

    def capsweep(self, *arguments: str | Path, node: str = CLIENT, timeout: float = 300) -> str:
        """What a verb of the command prints."""
        return self.run(sys.executable, "-m", "orchestrator.cli", *map(str, arguments), node=node, timeout=timeout)

    def _within(self, node: str, command: "list[str] | tuple[str, ...]") -> list[str]:
        return ["ip", "netns", "exec", self._names[node], *command]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
