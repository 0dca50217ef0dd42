"""Measures the cost of durability: the same run with and without fsync and snapshots, alternately, in this process.

Run by hand on an idle machine: `python benchmarks/durability.py`. Needs the shared test data.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import yaml

from orchestrator.execution.executor import Watcher
from orchestrator.execution.inline import InlineExecutor
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.spec.sweep_file import load_sweep
from orchestrator.store.snapshots import Snapshots

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def plan_of(folder: Path, *, texts: int, snapshot_seconds: float) -> Plan:
    lines = (DATA / "text" / "stories_choose.jsonl").read_text().splitlines()[:texts]
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": json.loads(line)["text"]}) + "\n" for line in lines)
    )
    sweep = {
        "name": "durability",
        "models": [str(DATA / "models" / "stories260K")],
        "texts": [{"source": "files", "path": "texts.jsonl"}],
        "search": {"retries": 1},
        "engines": {"snapshot_seconds": snapshot_seconds},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return make_plan(load_sweep(path))


def seconds_of(*, texts: int, durable: bool) -> tuple[float, float, int]:
    """Seconds from the first probe to the searches table, the seconds of these in fsync and snapshots, and steps."""
    within = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal within
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                within += time.perf_counter() - started

        return call

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        plan = plan_of(Path(name), texts=texts, snapshot_seconds=60 if durable else 1e9)
        fsync = timed(os.fsync) if durable else lambda handle: None
        saving = patch("orchestrator.execution.inline.Snapshots.save", timed(Snapshots.save))
        with saving, patch("os.fsync", fsync), open_session(plan, f"{name}/run") as session:
            started = time.perf_counter()
            stats = InlineExecutor().run(session, stop=Stop(), watcher=Watcher())
            session.finish()
            return time.perf_counter() - started, within, stats.slot_steps


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--texts", type=int, default=64)
    arguments.add_argument("--repetitions", type=int, default=3)
    asked = arguments.parse_args()
    ratios: list[float] = []
    shares: list[float] = []
    for number in range(asked.repetitions):
        # Alternately, with each side first as often as the other, because a machine may slow down as it grows warm.
        order = (True, False) if number % 2 == 0 else (False, True)
        sides = {durable: seconds_of(texts=asked.texts, durable=durable) for durable in order}
        (with_it, within, steps), (without_it, _, other) = sides[True], sides[False]
        ratios.append(100 * (with_it / without_it - 1))
        shares.append(100 * within / with_it)
        print(
            f"{with_it:.1f} s with fsync and snapshots, {without_it:.1f} s without "
            f"({steps:,} and {other:,} optimizer steps)",
            flush=True,
        )
    each = ", ".join(f"{ratio:+.1f}" for ratio in ratios)
    print(
        f"fsync and snapshots add {fmean(ratios):+.1f} % to the run (repetitions {each}); their calls take "
        f"{fmean(shares):.2f} % of it; {asked.texts} texts, stories260K"
    )


if __name__ == "__main__":
    main()
