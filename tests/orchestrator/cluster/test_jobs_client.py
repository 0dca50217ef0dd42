"""What a cluster may answer to a submission; here from a server that answers as Ray's dashboard does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from orchestrator.cluster.jobs import client
from orchestrator.cluster.jobs.client import Jobs
from orchestrator.errors import BadInput
from orchestrator.spec.sweep_file import load_sweep

REFUSAL = b"No available agent to submit job, please try again later."


class Dashboard(ThreadingHTTPServer):
    """Refuses so many jobs, then takes one."""

    daemon_threads = True
    refusals = 0
    reason = REFUSAL
    submitted = 0


class _Handler(BaseHTTPRequestHandler):
    dashboard: Dashboard

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/api/version":
            answer = {"version": "4", "ray_version": version("ray"), "ray_commit": "", "session_name": "s"}
            self._send(200, json.dumps(answer).encode())
        else:
            self._send(200, b"[]" if self.path.startswith("/api/jobs") else b"{}")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, b"{}")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.dashboard.submitted += 1
        if self.dashboard.submitted <= self.dashboard.refusals:
            self._send(500, self.dashboard.reason)
        else:
            self._send(200, json.dumps({"submission_id": asked["submission_id"], "job_id": ""}).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with Dashboard(("127.0.0.1", 0), _Handler) as server:
        monkeypatch.setattr(_Handler, "dashboard", server, raising=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def submit(dashboard: Dashboard, toy_sweep, tmp_path) -> str:
    jobs = Jobs(f"http://127.0.0.1:{dashboard.server_port}")
    return jobs.submit(load_sweep(toy_sweep), str(tmp_path / "run"), options=[], install=False, variables={})


def test_a_cluster_that_has_just_started_is_asked_again(dashboard, toy_sweep, tmp_path):
    dashboard.refusals = 3
    assert submit(dashboard, toy_sweep, tmp_path).startswith("run-")
    assert dashboard.submitted == 4


@pytest.mark.parametrize("reason", [b"another reason", REFUSAL])
def test_another_refusal_or_one_that_does_not_end_is_said(dashboard, toy_sweep, tmp_path, monkeypatch, reason):
    monkeypatch.setattr(client, "READY_SECONDS", 2.0)
    dashboard.refusals, dashboard.reason = 10**6, reason
    with pytest.raises(BadInput, match=reason.decode()[:18]):
        submit(dashboard, toy_sweep, tmp_path)
    assert (dashboard.submitted == 1) == (reason != REFUSAL)
