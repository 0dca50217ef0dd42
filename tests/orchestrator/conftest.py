import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import orchestrator

TIMES = ("seconds",)
"""Columns of the searches table that no two runs share."""


def capsweep(*arguments: str | Path) -> Sequence[str]:
    """The command line of a verb, in a process of its own."""
    return [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)]


@pytest.fixture(scope="session")
def start() -> Callable[..., "subprocess.Popen[str]"]:
    def begin(*arguments: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(capsweep(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


@pytest.fixture(scope="session")
def run_to_end() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(capsweep(*arguments), capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture(scope="session")
def searches_of() -> Callable[[Path], list[dict[str, Any]]]:
    def read(run: Path) -> list[dict[str, Any]]:
        """The searches table without times, in a fixed order."""
        table: pa.Table = orchestrator.read(str(run)).searches
        return sorted(table.drop_columns(list(TIMES)).to_pylist(), key=lambda row: row["search_id"])

    return read
