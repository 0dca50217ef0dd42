"""What whoever asks for a job sees when its cluster refuses, or the way to it breaks: a dashboard that does so."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray
from aiohttp import web

JOB = {
    "type": "SUBMISSION",
    "submission_id": "mine-1",
    "status": "RUNNING",
    "entrypoint": "python",
    "metadata": {"capsweep_run_dir": "/runs/mine", "capsweep_sweep": "mine"},
}


class Dashboard:
    """Answers as Ray's dashboard does, and breaks connections: that of the log, or from then on all of them."""

    def __init__(self, *, ends_log: bool) -> None:
        self.ends_log = ends_log
        self.was_followed = False

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"ray_version": ray.__version__, "version": "4"})

    async def jobs(self, request: web.Request) -> web.Response:
        if self.was_followed:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response([JOB])

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        self.was_followed = True
        log = web.WebSocketResponse()
        await log.prepare(request)
        await log.send_str("0:10  1 of 9 searches done\n")
        if not self.ends_log:
            assert request.transport is not None
            request.transport.abort()
        return log


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """The address of this application on loopback."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield site.name
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(params=[True, False], ids=["the log ends first", "the log is cut"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    dashboard = Dashboard(ends_log=request.param)
    app = web.Application()
    app.router.add_get("/api/version", dashboard.version)
    app.router.add_get("/api/jobs/", dashboard.jobs)
    app.router.add_get("/api/jobs/mine-1/logs/tail", dashboard.tail)
    with serving(app) as address:
        yield address


@pytest.mark.parametrize("mode", ["token", "disabled"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_missing_or_wrong_takes_a_line(status, mode, capsweep, monkeypatch, tmp_path):
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text="Unauthorized")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    app = web.Application()
    app.router.add_get("/api/version", refuse)
    with serving(app) as address:
        ended = capsweep("status", address)
    assert ended.returncode == 2
    assert f"{address}: that cluster requires its token. Set RAY_AUTH_MODE=token" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_broken_connection_is_no_end_of_the_job(address, capsweep):
    ended = capsweep("status", "mine", "--address", address, "--follow")
    assert ended.returncode == 1
    assert ended.stdout == "0:10  1 of 9 searches done\n"
    assert ended.stderr.startswith(f"{address}: the connection is lost (")
    assert f"`capsweep status mine-1 --address {address} --follow` comes back to it" in ended.stderr
    assert ended.stderr.count("\n") == 1
