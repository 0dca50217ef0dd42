from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import TOKEN, Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, to which this process is logged in; no browser is found, which would take seconds to draw."""
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    with Hub() as hub, hub.here(tmp_path / "hub", token=TOKEN):
        yield hub
