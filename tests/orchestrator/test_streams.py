"""An output that cannot be written to changes neither what a verb does nor its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = r"""
import os, sys
from orchestrator.cli.streams import show_what_can_be_shown
show_what_can_be_shown()
print("≥ 3 ± 1 … │─╭ é \udcff 漢")
for number in range(20_000):
    print(number)
print("an error ≥", file=sys.stderr)
held = os.open(os.devnull, os.O_RDONLY)
open(sys.argv[1], "w").write(f"at the end {held}")
sys.exit(7)
"""


def show(tmp_path: Path, shell: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """A process that shows more than a pipe holds, within a line of a shell; it must come to its end."""
    (tmp_path / "show.py").write_text(SHOW, encoding="utf-8")
    command = f"{sys.executable} {tmp_path / 'show.py'} {tmp_path / 'end'} {shell}"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, **variables},
        capture_output=True,
        encoding="latin-1",
    )
    assert ended.returncode == 7, ended.stderr
    assert (tmp_path / "end").read_text().startswith("at the end ")
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    return ended


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({"PYTHONIOENCODING": "ascii"}, ">= 3 +- 1 ~ |-- ? ? ?"),
        ({"PYTHONIOENCODING": "latin-1"}, ">= 3 ± 1 ~ |-- é ? ?"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, ">= 3 +- 1 ~ |-- ? ? ?"),
        ({"PYTHONIOENCODING": "utf-8:strict"}, "≥ 3 ± 1 … │─╭ é ? 漢".encode().decode("latin-1")),
    ],
)
def test_letters_that_the_encoding_lacks_have_plain_ones(tmp_path, variables, first):
    ended = show(tmp_path, **variables)
    # Not splitlines(): latin-1 reads line ends into the bytes of others.
    assert ended.stdout.split("\n")[0] == first


def test_a_pipe_that_nobody_reads_any_more(tmp_path):
    ended = show(tmp_path, "| head -n 1")
    assert ended.stdout.count("\n") == 1
    assert ended.stderr.count("\n") == 1


def test_a_full_disk_is_said_once(tmp_path):
    ended = show(tmp_path, "> /dev/full")
    assert ended.stderr.count("standard output: No space left on device") == 1


@pytest.mark.parametrize("shell", ["2> /dev/full", "> /dev/full 2>&1", "2>&1 >&- | true"])
def test_errors_that_cannot_be_shown(tmp_path, shell):
    show(tmp_path, shell)


def test_closed_outputs_are_not_those_of_the_next_file(tmp_path):
    show(tmp_path, "<&- >&- 2>&-")
    assert int((tmp_path / "end").read_text().rpartition(" ")[2]) > 2


def test_a_pipe_that_another_process_made_non_blocking_gets_everything(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen([sys.executable, "-c", SHOW, tmp_path / "end"], stdout=writing) as process:
        os.close(writing)
        with open(reading) as lines:
            assert lines.read().splitlines()[-1] == "19999"
    assert process.returncode == 7
