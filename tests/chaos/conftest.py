"""What the tests of faults share: how often each is provoked, sweeps, and the lines that report what was found.

They are no part of `make test`. `make chaos-short` provokes a few, those that no other test proves; CAPSWEEP_CHAOS=1,
which `make chaos` sets, provokes all as often as docs/reliability.md states.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos.harness import Tally, wait_until

FULL = os.environ.get("CAPSWEEP_CHAOS") == "1"
TALLIES = pytest.StashKey[list[Tally]]()


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """How often a fault is provoked: with `make chaos`, and without; 0 skips it there."""

    def choose(full: int, short: int) -> int:
        if not FULL and not short:
            pytest.skip("takes long: runs with `make chaos`")
        return full if FULL else short

    return choose


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Tally]]:
    """Begins the line of a promise; at the end of the test it must be kept."""
    mine: list[Tally] = []

    def begin(promise: str) -> Tally:
        mine.append(Tally(promise=promise))
        request.config.stash.setdefault(TALLIES, []).append(mine[-1])
        return mine[-1]

    yield begin
    for found in mine:
        assert found.provoked, f"never provoked: {found.line()}"
        assert found.kept, found.line()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    tallies = config.stash.get(TALLIES, [])
    if tallies:
        terminalreporter.section("promises" + ("" if FULL else " (a few of each; `make chaos` provokes them all)"))
        for found in tallies:
            terminalreporter.write_line(found.line())


@pytest.fixture
def stories_sweep(tmp_path: Path, stories: list[str], stories_model: Path) -> Callable[..., Path]:
    """A sweep of the real engine over the first texts of the shared stories."""

    def write(*, texts: int, name: str = "stories", **fields: Any) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in stories[:texts]))
        sweep = {
            "name": name,
            "models": [str(stories_model)],
            "texts": [{"source": "files", "path": path.name}],
            **fields,
        }
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(yaml.safe_dump(sweep))
        return spec

    return write


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """An object store on loopback that speaks S3, with a bucket `runs`: the variables that lead to it."""
    pytest.importorskip("s3fs", reason="needs s3fs (the extra s3)")
    pytest.importorskip("moto", reason="needs moto's server (the extra dev)")
    log_file = tmp_path_factory.mktemp("objects") / "log"
    with log_file.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdout=log, stderr=log
        )
    try:
        url = _address_in(log_file, server)
        urllib.request.urlopen(urllib.request.Request(f"{url}/runs", method="PUT"), timeout=120)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MOTO_PID": str(server.pid),
        }
    finally:
        server.terminate()
        server.wait()


def _address_in(log_file: Path, server: "subprocess.Popen[bytes]") -> str:
    wait_until(lambda: "Running on " in log_file.read_text() or server.poll(), awaited="the object store")
    assert server.poll() is None, log_file.read_text()
    return log_file.read_text().partition("Running on ")[2].split()[0]
