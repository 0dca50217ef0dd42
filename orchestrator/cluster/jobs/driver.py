"""The driver of a submitted job, on the cluster: runs the sweep, and resumes it when its process is killed.

    python -m orchestrator.cluster.jobs.driver RUN_DIR [options of `capsweep run`]

in a folder that orchestrator/cluster/jobs/submission.py filled. Knows nothing of what a run does.
"""

import logging
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orchestrator.cluster.environment import set_variables
from orchestrator.cluster.jobs.submission import SWEEP_NAME, VERSIONS_NAME
from orchestrator.execution.stop import Stop, stop_on_signals

DECIDE = ("ray", "torch", "transformers", "tokenizers", "pyarrow")
"""Distributions of which another version may give other results, or none."""
MOST_DEATHS = 3
"""A driver that was killed so often is not begun again."""


def different_versions(text: str) -> list[str]:
    """What is installed here and differs from what the sender has, of what decides results."""
    sent = dict(line.split("==") for line in text.split())
    found: list[str] = []
    for name in DECIDE:
        try:
            here = version(name).partition("+")[0]
        except PackageNotFoundError:
            here = "not installed"
        if name in sent and here != sent[name]:
            found.append(f"{name}: {here} here, {sent[name]} where the sweep was submitted")
    return found


def main() -> int:
    """Run to the end; returns the exit code of `capsweep run`."""
    if found := different_versions(Path(VERSIONS_NAME).read_text()):
        print(*found, sep="\n", file=sys.stderr)
        print("Install the same on all nodes, or submit with --install.", file=sys.stderr)
        return 2
    set_variables("auto")
    import ray

    here = Path.cwd()
    # Ray removes the job's files from all nodes once no driver of it is left, also if another one is to follow.
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    run_dir, *options = sys.argv[1:]
    command = [sys.executable, "-m", "orchestrator.cli", "run", SWEEP_NAME, "--run-dir", run_dir, *options]
    # Ray signals every process of a job, the driver too: handed on, it would come twice, which ends a driver at once.
    stop = Stop()
    with stop_on_signals(stop):
        code = 0
        for death in range(1, MOST_DEATHS + 1):
            code = subprocess.run([*command, "--address", "auto"], cwd=here).returncode
            # Python's own exit codes are not negative: something killed it.
            if code >= 0 or stop:
                break
            message = f"the driver was killed by signal {-code}, {death} of {MOST_DEATHS} times"
            print(message, file=sys.stderr, flush=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
