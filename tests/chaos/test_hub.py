"""A gated model of the hub through `submit`: the token reaches driver and engines, and nothing else."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import orchestrator
from tests.chaos.harness import wait_until
from tests.hub import TOKEN, Hub

CLUSTER_TOKEN = "0123456789abcdef" * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A Ray of one node, with its dashboard, in an environment that knows nothing of the hub."""

    folder: Path
    """Ray's own folder, and the home of whoever started it."""
    dashboard: str
    environment: Mapping[str, str]


def two_free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))  # short: paths of sockets may have 107 characters
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HF_"))}
    environment = {
        **kept,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": CLUSTER_TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port, dashboard = two_free_ports()
    command = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=3"]
    command += [f"--temp-dir={folder}/ray", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until(lambda: b'"' in jobs(url), awaited="the dashboard", seconds=120)
        yield Head(folder=folder, dashboard=url, environment=environment)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def jobs(url: str, path: str = "/api/version") -> bytes:
    """What the dashboard answers; empty while it does not."""
    asked = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {CLUSTER_TOKEN}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return reply.read()
    except OSError:
        return b""


def files_with(word: bytes, *folders: Path) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    assert len(files) > 20, "these are not the folders of a Ray that ran a job"
    return [file for file in files if word in content_of(file)]


def content_of(file: Path) -> bytes:
    """What is in a file of a Ray that lives; nothing if it is gone by now."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def test_a_gated_model_is_measured_by_a_job_and_its_token_is_nowhere(head: Head, tmp_path: Path, shipped_model: Path):
    (tmp_path / "text.txt").write_text("Once upon a time there was a girl.")
    sweep = {
        "name": "gated",
        "models": ["org/gated"],
        "texts": [{"source": "files", "path": "text.txt"}],
        "recipe": {"radius": 30, "patience": 3},
        "search": {"retries": 0},
        "engines": {"device": "cpu", "count": 1},
    }
    (tmp_path / "gated.yaml").write_text(yaml.safe_dump(sweep))
    run, token = tmp_path / "run", TOKEN
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli",
        "submit",
        "gated.yaml",
        "search.max_length=2",
        "--address",
        head.dashboard,
        "--follow",
    ]
    with Hub() as hub:
        commit = hub.push("org/gated", shipped_model, gated=True)
        here = {**head.environment, "HF_TOKEN": token, "HF_ENDPOINT": hub.url, "HOME": str(tmp_path)}

        def submit(name: str, *names: str) -> "subprocess.CompletedProcess[str]":
            carried = [word for name in names for word in ("--env", name)]
            whole = [*command, "--run-dir", str(tmp_path / name), *carried]
            return subprocess.run(whole, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=400)

        without = submit("without", "HF_ENDPOINT")
        assert without.returncode == 2, without.stdout + without.stderr
        assert "this model is gated" in without.stdout
        ended = submit("run", "HF_ENDPOINT", "HF_TOKEN")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        # Nothing asked for the model itself without the token.
        asked = [each for method, path, each in hub.asked if "resolve" in path]
        assert asked.count(token) > 5
    searches = orchestrator.read(str(run)).searches
    assert set(searches["model_revision"].to_pylist()) == {commit}
    assert set(searches["capacity_tokens"].to_pylist()) <= {0, 1, 2}
    session = json.loads((run / "provenance.json").read_text())["sessions"][-1]
    assert session["overrides"] == ["search.max_length=2"]
    assert files_with(token.encode(), run, head.folder, tmp_path) == []
    shown = b"".join(jobs(head.dashboard, path) for path in ("/api/jobs/", "/api/v0/actors?detail=1", "/api/v0/tasks"))
    assert b"org/gated" in shown or b"gated" in shown
    assert token.encode() not in shown
