import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow.compute as pc
import pytest

pytest.importorskip("starlette", reason="needs starlette (the extra watch)")
pytest.importorskip("uvicorn", reason="needs uvicorn (the extra watch)")

from orchestrator.store.local_files import LocalFiles
from orchestrator.store.parquet import read_probes, write_rows
from orchestrator.watching.server import listen, make_app, serving
from orchestrator.watching.watch import pages_of

TOKEN = "a-token"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look looks."""
    monkeypatch.setattr("orchestrator.watching.live_page.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("orchestrator.watching.live_page.PAUSE_PER_SECOND", 0.0)


@pytest.fixture
def runs(finished: Callable[..., Path], toy_sweep: Path) -> Path:
    """A folder with two finished runs."""
    (toy_sweep.parent / "runs").mkdir()
    finished(toy_sweep, "runs/first")
    finished(toy_sweep, "runs/second")
    return toy_sweep.parent / "runs"


@pytest.fixture
def late(runs: Path) -> tuple[Path, bytes]:
    """A file of rows that the first run does not have yet, and its content: half of its searches have no row so far."""
    files = LocalFiles(runs / "first")
    rows = read_probes(files)
    files.remove(*files.names("probes", suffix=".parquet"))
    some = sorted(set(rows["search_id"].to_pylist()))[:6]
    write_rows(files, "early", rows.filter(pc.field("search_id").isin(some)))
    path = runs / "first" / write_rows(files, "late", rows.filter(~pc.field("search_id").isin(some)))
    content = path.read_bytes()
    path.unlink()
    return path, content


@pytest.fixture
def served() -> Callable[[str], AbstractContextManager[str]]:
    """Serves the page of a run or folder on loopback; gives its address."""

    @contextmanager
    def serve(url: str) -> Iterator[str]:
        listening = listen(0)
        server, thread = serving(make_app(pages_of(url), TOKEN), listening)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
        server.should_exit = server.force_exit = True
        while thread.is_alive():
            time.sleep(0.01)

    return serve
