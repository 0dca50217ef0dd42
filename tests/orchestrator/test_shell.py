"""What a shell needs of the command: its version, and completion where it is asked for, in a real terminal."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from shutil import which

import pytest

WAIT_SECONDS = 60.0
"""A machine that runs other tests starts the command slowly."""


def test_the_version_is_that_of_the_distribution(capsweep):
    ended = capsweep("--version")
    assert (ended.returncode, ended.stdout) == (0, f"capsweep {version('capsweep')}\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom orchestrator.cli.app import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "ray", "pyarrow", "numpy", "pandas", "pydantic", "yaml", "omegaconf", "fsspec"}
    assert heavy.isdisjoint(ended.stdout.splitlines()[-1].split())


class Bash:
    """An interactive bash in a terminal of its own, in which `capsweep` is the command of this checkout."""

    def __init__(self, folder: Path) -> None:
        command = folder / "bin" / "capsweep"
        command.parent.mkdir()
        command.write_text(f"#!{sys.executable}\nimport sys\nfrom orchestrator.cli.app import main\nsys.exit(main())\n")
        command.chmod(0o755)
        self._terminal, there = pty.openpty()
        environment = {
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TERM": "dumb",
            "PS1": "$ ",
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        }
        words = ["bash", "--norc", "--noprofile", "-i"]
        self._process = subprocess.Popen(
            words, stdin=there, stdout=there, stderr=there, env=environment, cwd=folder, start_new_session=True
        )
        os.close(there)

    def type(self, keys: str, *, until: str) -> str:
        """Type keys; returns what the terminal shows from then on, up to `until`."""
        os.write(self._terminal, keys.encode())
        shown, deadline = "", time.monotonic() + WAIT_SECONDS
        while until not in shown:
            assert time.monotonic() < deadline, f"wanted {until!r}, the terminal shows {shown!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.skipif(which("bash") is None, reason="needs bash")
class TestCompletion:
    @pytest.fixture
    def bash(self, tmp_path: Path) -> Iterator[Bash]:
        bash = Bash(tmp_path)
        yield bash
        bash.close()

    def test_completes_verbs_options_and_files_in_bash(self, bash, tmp_path):
        (tmp_path / "mysweep.yaml").touch()
        bash.type('eval "$(capsweep --show-completion)"; echo rea""dy\n', until="ready")
        bash.type("capsweep resu\t", until="resume ")
        bash.type("--retr\t", until="--retry-failed ")
        bash.type("\x15capsweep run mysw\t", until="mysweep.yaml ")
        bash.type("--dry\t", until="--dry-run ")
