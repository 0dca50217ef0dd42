"""The sbatch script, run with a `srun` and a `scontrol` that start its nodes as two Rays of this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import orchestrator
from tests.chaos.harness import num_row_files, wait_until, write_sweep

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "clusters" / "slurm.sh"
SRUN = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "$3" | tr , '\\n'
"""
CAPSWEEP = f"""#!/usr/bin/env bash
exec {sys.executable} -m orchestrator.cli "$@"
"""

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds what is left running by /proc")


@dataclass(kw_only=True)
class SlurmJob:
    process: "subprocess.Popen[str]"
    number: int

    def end(self) -> tuple[int, str]:
        """Exit code and output, once it has ended."""
        output, _ = self.process.communicate(timeout=300)
        return self.process.returncode, output

    def running(self) -> list[int]:
        """Processes that this job has started, and theirs: Ray's agents too, which nobody is parent of."""
        mark = f"SLURM_JOB_ID={self.number}\0".encode()
        found: list[int] = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def has_ended_all(self) -> bool:
        deadline = time.monotonic() + 20
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.2)
        return not self.running()


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Callable[..., SlurmJob]]:
    """What `sbatch` does: run the script with Slurm's variables, on nodes `one` and `two`."""
    jobs: list[SlurmJob] = []

    def begin(*arguments: str | Path, srun: str = SRUN) -> SlurmJob:
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        for name, text in {"srun": srun, "scontrol": SCONTROL, "capsweep": CAPSWEEP}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        number = 10 * os.getpid() + len(jobs)
        jobs.append(SlurmJob(process=_bash(arguments, tmp_path, programs, number), number=number))
        return jobs[-1]

    yield begin
    for job in jobs:
        for pid in job.running():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(f"/tmp/ray-{job.number}", ignore_errors=True)


def _bash(arguments: tuple[str | Path, ...], folder: Path, programs: Path, number: int) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    slurm: Mapping[str, str] = {
        "HOME": str(folder),
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "CAPSWEEP_BIN": str(programs),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_CPUS_PER_TASK": "2",
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *map(str, arguments)],
        env={**inherited, **slurm},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_time_limit_loses_nothing_and_the_next_job_resumes(submit, tmp_path):
    spec = write_sweep(tmp_path, texts=12, recipe={"step_seconds": 0.05, "steps": 20, "slots": 4})
    run = tmp_path / "run"
    first = submit(spec, run)
    wait_until(lambda: num_row_files(run) >= 2, first.process)
    first.process.send_signal(signal.SIGTERM)  # to the script alone, as --signal=B:TERM does
    code, output = first.end()
    assert code == 130, output
    assert "2 nodes have joined" in output
    assert "interrupted" in output
    assert first.has_ended_all()
    before = set(orchestrator.read(str(run)).probes["probe_id"].to_pylist())

    token = tmp_path / ".ray" / "auth_token"
    assert [path.stat().st_mode & 0o777 for path in (token.parent, token)] == [0o700, 0o600]
    assert Path(f"/tmp/ray-{first.number}").stat().st_mode & 0o777 == 0o700

    second = submit(spec, run)
    code, output = second.end()
    assert code == 0, output
    assert second.has_ended_all()
    probes, searches = orchestrator.read(str(run))
    assert set(searches["status"].to_pylist()) == {"measured"}
    assert before
    ids = probes["probe_id"].to_pylist()
    assert before < set(ids)
    assert len(ids) == len(set(ids)), "a probe ran twice"
    # What is of no use any more is gone, on the nodes and beside the run.
    assert not Path(f"/tmp/ray-{second.number}").exists()
    assert [path.name for path in tmp_path.glob("capsweep-*-ray.log")] == [f"capsweep-{first.number}-ray.log"]


def test_a_node_that_does_not_come_up_ends_the_job(submit, toy_sweep, tmp_path):
    job = submit(toy_sweep, tmp_path / "run", srun="#!/usr/bin/env bash\necho no such node\nexit 1\n")
    code, output = job.end()
    assert code == 1
    assert "Ray ended on a node before all had joined" in output
    log = re.search(r"(\S+-ray\.log) states why", output)
    assert log is not None
    assert "no such node" in Path(log[1]).read_text()
    assert not (tmp_path / "run").exists()
    assert job.has_ended_all()


def test_it_prints_its_usage(submit):
    code, output = submit("only-a-spec.yaml").end()
    assert (code, output.split()[:2]) == (2, ["usage:", "sbatch"])
