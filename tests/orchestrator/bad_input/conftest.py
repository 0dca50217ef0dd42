"""Input that cannot be used: one clear message on stderr, exit code 2, nothing written, no traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Tree = dict[str, bytes | None]


def _tree(folder: Path) -> Tree:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def tree() -> Callable[[Path], Tree]:
    """Everything below a folder: files with their contents, folders with None."""
    return _tree


@pytest.fixture
def refused(capsweep: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run the command in the test's folder, which must refuse its input; returns the lines of its message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str | Path) -> list[str]:
        before = _tree(tmp_path)
        ended = capsweep(*arguments)
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout == ""
        assert _tree(tmp_path) == before, "something was written"
        return ended.stderr.splitlines()

    return run


@pytest.fixture
def sweep(toy_sweep: Path) -> Callable[..., Path]:
    """The toy's sweep file with some keys replaced."""

    def write(**changes: Any) -> Path:
        toy_sweep.write_text(yaml.safe_dump({**yaml.safe_load(toy_sweep.read_text()), **changes}))
        return toy_sweep

    return write


@pytest.fixture
def one_problem(refused: Callable[..., list[str]]) -> Callable[[Path], str]:
    """The one line that `check` and `run` alike refuse a sweep file with."""

    def ask(path: Path) -> str:
        (checked,) = refused("check", path)
        assert refused("run", path, "--inline") == [checked]
        return checked

    return ask
