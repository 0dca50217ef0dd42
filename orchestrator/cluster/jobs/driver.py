"""The driver of a submitted job, on the cluster: runs the sweep, and resumes it when its process is killed.

    python -m orchestrator.cluster.jobs.driver [--variables KEY] RUN_DIR [options of `capsweep run`]

It runs in a folder that orchestrator/cluster/jobs/submission.py filled. Knows nothing of what a run does.
"""

import json
import logging
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orchestrator.cluster.environment import set_variables
from orchestrator.cluster.jobs.submission import SWEEP_NAME, VARIABLES_OPTION, VERSIONS_NAME
from orchestrator.execution.stop import Stop, stop_on_signals

DECIDE = ("ray", "torch", "transformers", "tokenizers", "pyarrow")
"""Distributions of which a different version may change the results, or fail."""
MOST_DEATHS = 3
"""A driver that was killed this often is not restarted."""


def different_versions(text: str) -> list[str]:
    """One message for each distribution of DECIDE whose version here differs from the sender's.

    Args:
        text: The sender's versions, `name==version` on each line.
    """
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


def take_variables(key: str) -> None:
    """Take variables from the head's RAM into the environment of this process, which `capsweep run` inherits.

    Raises:
        LookupError: when they are gone, because this job or the head began again.
    """
    from ray.experimental import internal_kv

    data = internal_kv._internal_kv_get(key)
    if data is None:
        raise LookupError("the variables of --env are gone from the head. Submit the sweep again.")
    internal_kv._internal_kv_del(key)
    os.environ.update(json.loads(data))


def main() -> int:
    """Run to the end; returns the exit code of `capsweep run`."""
    if found := different_versions(Path(VERSIONS_NAME).read_text(encoding="utf-8")):
        print(*found, sep="\n", file=sys.stderr)
        print("Install the same versions on all nodes, or submit with --install.", file=sys.stderr)
        return 2
    set_variables("auto")
    import ray

    here = Path.cwd()
    # Stay connected: Ray removes the job's files from all nodes when no driver is left, even if another will follow.
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    words = sys.argv[1:]
    if words[0] == VARIABLES_OPTION:
        try:
            take_variables(words[1])
        except LookupError as error:
            print(error, file=sys.stderr)
            return 2
        words = words[2:]
    run_dir, *options = words
    command = [sys.executable, "-m", "orchestrator.cli", "run", SWEEP_NAME, "--run-dir", run_dir, *options]
    # Ray signals every process of a job. Do not pass signals on: a second one ends the run at once.
    stop = Stop()
    with stop_on_signals(stop):
        code = 0
        for death in range(1, MOST_DEATHS + 1):
            code = subprocess.run([*command, "--address", "auto"], cwd=here).returncode
            # Negative codes mean death by a signal: resume unless the session was asked to stop.
            if code >= 0 or stop:
                break
            message = f"the driver was killed by signal {-code}, {death} of {MOST_DEATHS} times"
            print(message, file=sys.stderr, flush=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
