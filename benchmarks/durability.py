"""What durability costs: the same run with and without fsync and snapshots, in turn, in this process.

Run by hand on an idle machine: `python benchmarks/durability.py`. Needs the shared test data.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import yaml

from orchestrator.inline import run_inline
from orchestrator.plan import Plan, make_plan
from orchestrator.session import open_session
from orchestrator.spec import load_sweep
from orchestrator.stop import Stop

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


def seconds_of(*, texts: int, durable: bool) -> tuple[float, int]:
    """Seconds from the first probe to the searches table, and row-steps."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        plan = plan_of(Path(name), texts=texts, snapshot_seconds=60 if durable else 1e9)
        fsync = os.fsync if durable else lambda handle: None
        with patch("os.fsync", fsync), open_session(plan, f"{name}/run") as session:
            started = time.perf_counter()
            stats = run_inline(session, plan.sweep.engine_settings(), stop=Stop(), heard=lambda verdicts: None)
            session.finish()
            return time.perf_counter() - started, stats.row_steps


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--texts", type=int, default=64)
    arguments.add_argument("--repetitions", type=int, default=3)
    asked = arguments.parse_args()
    ratios: list[float] = []
    for number in range(asked.repetitions):
        # In turn, and each first as often as the other: a machine may grow warm.
        sides = [
            (durable, seconds_of(texts=asked.texts, durable=durable)) for durable in (number % 2 == 0, number % 2 == 1)
        ]
        (with_it, steps), (without, other) = dict(sides)[True], dict(sides)[False]
        ratios.append(100 * (with_it / without - 1))
        print(f"{with_it:.1f} s with, {without:.1f} s without ({steps:,} and {other:,} row-steps)", flush=True)
    each = ", ".join(f"{ratio:+.1f}" for ratio in ratios)
    print(
        f"fsync and snapshots: {fmean(ratios):+.1f} % of the run (repetitions {each}), {asked.texts} texts, stories260K"
    )


if __name__ == "__main__":
    main()
