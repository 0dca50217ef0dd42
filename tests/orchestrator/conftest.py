import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import orchestrator
from orchestrator.cli.app import app

TIMES = ("seconds",)
"""Columns of the searches table that no two runs share."""

Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def capsweep() -> Callable[..., Ended]:
    """The command, run in this process; what a user should never see, a traceback, is raised."""

    def run(*arguments: str | Path | int) -> Ended:
        words = [str(argument) for argument in arguments]
        ended = CliRunner().invoke(app, words, catch_exceptions=False)
        return Ended(words, ended.exit_code, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="session")
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """The command, begun in a process of its own."""

    def begin(*arguments: str | Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


@pytest.fixture(scope="session")
def without_pages() -> Callable[[], AbstractContextManager[None]]:
    """Within it no page is rendered: pages take longer than the toy's runs, and few tests look at them."""

    @contextmanager
    def leave_out() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.launch.write_report", lambda run, searches: "")
            patch.setattr("orchestrator.report.writing.render_page", lambda tables, **_: "")
            yield

    return leave_out


@pytest.fixture
def no_page(without_pages: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with without_pages():
        yield


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that `finished` has made."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def finished(
    capsweep: Callable[..., Ended],
    without_pages: Callable[[], AbstractContextManager[None]],
    made_runs: Path,
    tmp_path: Path,
) -> Callable[..., Path]:
    """The finished run of a sweep file that names nothing but what the fixtures made in `tmp_path`, without a page.

    It is run once for all tests and copied to `tmp_path`.
    """

    def finish(spec: Path, name: str = "run") -> Path:
        anywhere = spec.read_text().replace(str(tmp_path), "HERE")
        made, run = made_runs / sha256(anywhere.encode()).hexdigest()[:16], tmp_path / name
        if not made.is_dir():
            with without_pages():
                ended = capsweep("run", spec, "--inline", "--run-dir", made)
            assert ended.returncode == 0, ended.stderr
            move(made / "sweep.yaml", str(tmp_path), "HERE")
        copytree(made, run)
        move(run / "sweep.yaml", "HERE", str(tmp_path))
        return run

    def move(path: Path, here: str, there: str) -> None:
        path.write_text(path.read_text().replace(here, there))

    return finish


@pytest.fixture(scope="session")
def searches_of() -> Callable[[Path], list[dict[str, Any]]]:
    def read(run: Path) -> list[dict[str, Any]]:
        """The searches table without times, in a fixed order."""
        table: pa.Table = orchestrator.read(str(run)).searches
        return sorted(table.drop_columns(list(TIMES)).to_pylist(), key=lambda row: row["search_id"])

    return read
