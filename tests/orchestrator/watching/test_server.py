"""Who is answered and with what; the verb, from its address to Ctrl-C; runs in object stores."""

import os
import re
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from starlette.testclient import TestClient

from orchestrator.errors import BadInput
from orchestrator.watching.server import make_app
from orchestrator.watching.watch import pages_of
from tests.elements import Elements

TOKEN = "a-token"


def client_of(url: Path | str, host: str = "127.0.0.1:8300") -> TestClient:
    return TestClient(make_app(pages_of(str(url)), TOKEN), base_url=f"http://{host}", follow_redirects=False)


@pytest.mark.usefixtures("no_page")
class TestWhoIsAnswered:
    @pytest.mark.parametrize("path", ["/", "/page", "/state", "/other/", "/a-toke/page", "/a-token2", "/favicon.ico"])
    def test_without_the_token_nobody(self, runs, path):
        answer = client_of(runs).get(path)
        assert answer.status_code == 403
        assert "first" not in answer.text

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8300", "10.0.0.1", "[::1]"])
    def test_by_another_name_nobody(self, runs, host):
        assert client_of(runs, host).get(f"/{TOKEN}/state").status_code == 400

    @pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:8300"])
    def test_on_loopback_whoever_has_the_token(self, runs, host):
        assert client_of(runs, host).get(f"/{TOKEN}/state").json()["summary"] == "2 runs"

    def test_only_reading_is_possible(self, runs):
        client = client_of(runs)
        assert {client.request(how, f"/{TOKEN}/state").status_code for how in ("POST", "PUT", "DELETE")} == {405}

    @pytest.mark.parametrize("name", ["..", "../other", "/etc", "first/../..", "third", ".", ""])
    def test_only_what_the_folder_lists_is_shown(self, runs, name):
        shutil.copytree(runs / "first", runs.parent / "other")
        for what in ("state", "page"):
            answer = client_of(runs).get(f"/{TOKEN}/{what}", params={"run": name})
            assert answer.status_code == 404

    def test_what_is_not_there_is_not_there(self, runs):
        assert client_of(runs).get(f"/{TOKEN}/other").status_code == 404
        assert client_of(runs / "first").get(f"/{TOKEN}/state?run=first").status_code == 404

    def test_the_address_without_its_last_slash(self, runs):
        assert client_of(runs).get(f"/{TOKEN}").headers["location"] == f"/{TOKEN}/"

    def test_nobody_else_may_frame_keep_or_hear_of_it(self, runs):
        for what in ("", "page", "state"):
            headers = client_of(runs).get(f"/{TOKEN}/{what}").headers
            assert headers["x-frame-options"] == "SAMEORIGIN"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"


def test_the_list_leads_to_its_runs(runs):
    client = client_of(runs)
    listed = client.get(f"/{TOKEN}/page").text
    page = Elements(listed)
    assert "12 of 12 searches done" in page.text
    assert {given["href"] for tag, given in page.tags if tag == "a"} == {"./?run=first", "./?run=second"}
    assert "All runs" in client.get(f"/{TOKEN}/?run=first").text
    assert "All runs" not in client.get(f"/{TOKEN}/").text


@pytest.mark.slow
def test_several_runs_have_one_page(runs):
    client = client_of(runs)
    both = client.get(f"/{TOKEN}/page", params=[("run", "first"), ("run", "second")]).text
    assert "<title>first and second · capsweep</title>" in both
    assert "model (second)" in Elements(both).text
    state = client.get(f"/{TOKEN}/state", params=[("run", "first"), ("run", "second")]).json()
    assert state["summary"].startswith("24 of 24 searches done")


@pytest.mark.usefixtures("no_page")
def test_names_of_runs_are_escaped(runs):
    hostile = "<img src=x onerror=alert(1)>&run=first #?"
    shutil.copytree(runs / "first", runs / hostile)
    client = client_of(runs)
    page = Elements(client.get(f"/{TOKEN}/page").text)
    assert hostile in page.text
    assert not [tag for tag, _ in page.tags if tag == "img"]
    (link,) = {given["href"] for tag, given in page.tags if tag == "a" and "img" in (given["href"] or "")}
    assert client.get(f"/{TOKEN}/state{(link or '').removeprefix('./')}").json()["trouble"] is None


@pytest.mark.usefixtures("no_page")
def test_a_run_that_cannot_be_read_has_a_page_all_the_same(runs):
    (runs / "second" / "searches.parquet").write_bytes(b"x")
    client = client_of(runs)
    page = client.get(f"/{TOKEN}/page?run=second")
    assert page.status_code == 200
    assert "searches.parquet: damaged" in page.text
    assert client.get(f"/{TOKEN}/state?run=first").json()["trouble"] is None


def test_where_nothing_is_there_is_no_server(tmp_path, capsweep):
    ended = capsweep("watch", tmp_path / "absent")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{tmp_path}/absent: there is nothing.")
    with pytest.raises(BadInput, match="holds credentials"):
        pages_of("s3://key:secret@bucket/runs")


def test_a_port_that_is_taken(runs, capsweep, served):
    with served(str(runs)) as address:
        port = address.split(":")[2].partition("/")[0]
        ended = capsweep("watch", runs, "--port", port)
    assert ended.returncode == 2
    assert f"--port {port}: cannot be listened at" in ended.stderr


@pytest.mark.slow
def test_the_verb_from_its_address_to_ctrl_c(runs, start):
    process = start("watch", runs)
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", address)
    assert b"2 runs" in urllib.request.urlopen(f"{address}state", timeout=60).read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address.rsplit("/", 2)[0], timeout=60)
    process.send_signal(signal.SIGINT)
    # Not by communicate(): it leaves out what readline() has taken from the pipe beside the first line.
    assert process.stdout.read().count("\n") == 1
    assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a folder in an object store."""
    if request.param == "memory":
        yield f"memory://watched-{os.getpid()}"
        return
    pytest.importorskip("s3fs", reason="needs s3fs (the extra s3)")
    moto = pytest.importorskip("moto.server", reason="needs moto's server (the extra dev)")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/watched", method="PUT"), timeout=120)
    yield "s3://watched/runs"
    server.stop()


@pytest.mark.usefixtures("no_page", "at_once")
def test_runs_in_an_object_store(runs, late, store):
    system, root = fsspec.core.url_to_fs(store)
    for path in sorted(runs.rglob("*")):
        if path.is_file():
            system.pipe_file(f"{root}/{path.relative_to(runs)}", path.read_bytes())
    client = client_of(store)
    assert client.get(f"/{TOKEN}/state").json()["summary"] == "2 runs"
    before = client.get(f"/{TOKEN}/state?run=first").json()
    assert before["trouble"] is None
    assert before["summary"].startswith("6 of 12 searches done")
    path, content = late
    system.pipe_file(f"{root}/{path.relative_to(runs)}", content)
    after = client.get(f"/{TOKEN}/state?run=first").json()
    assert after["trouble"] is None
    assert after["summary"].startswith("12 of 12 searches done")
    assert client.get(f"/{TOKEN}/state?run=..").status_code == 404
    system.rm(root, recursive=True)
    gone = client.get(f"/{TOKEN}/state?run=first").json()
    assert "not a run directory" in gone["trouble"]
