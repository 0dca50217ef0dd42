import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs starlette (the extra watch)")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn (the extra watch)")

from orchestrator.watching.server import listen, make_app  # noqa: E402 - starlette may be missing
from orchestrator.watching.watch import pages_of  # noqa: E402

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
def served() -> Callable[[str], AbstractContextManager[str]]:
    """Serves the page of a run or folder on loopback; gives its address."""

    @contextmanager
    def serve(url: str) -> Iterator[str]:
        listening: socket.socket = listen(0)
        config = uvicorn.Config(make_app(pages_of(url), TOKEN), log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}/"
        server.should_exit = server.force_exit = True
        while thread.is_alive():
            time.sleep(0.01)

    return serve
