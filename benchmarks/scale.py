"""How a run grows: probes a second, RAM, Tune's state, the time of a suggestion and of a resume, by simulation.

Run by hand on an idle machine, for hours if asked for much:

    python benchmarks/scale.py cluster --engines 100 --probes 1000 3000 10000
    python benchmarks/scale.py alone --searches 10000 --rows 100000

`cluster` runs the toy task, whose engines sleep instead of computing, on Ray with so many engine actors on four nodes
that this machine pretends to be: all of the driver, the recorder and the trials is real. `alone` measures the searcher,
the store and the resume without Ray. Each prints one line a measurement; docs/scale.md has them.
"""

import argparse
import json
import logging
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from orchestrator.cluster.environment import set_variables
from orchestrator.execution.engine_progress import EngineProgress
from orchestrator.execution.executor import Watcher
from orchestrator.execution.stop import Stop
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.runs.session import open_session
from orchestrator.search.bracket import Verdict
from orchestrator.spec.sweep_file import load_sweep

NODES = 4
STEPS, STEP_SECONDS, SPREAD = 80, 1.0, 0.5
"""A step takes a second, as a large model's, and probes 40 to 120 of them: a slot finishes one in 80 s."""
PROBES_PER_SEARCH = 3
"""Starts of a search: the first, and two retries."""


def plan_of(folder: Path, *, searches: int, slots: int = 16, engines: int | str = "auto") -> Plan:
    words = "long enough to have a capacity of its own, and then some more words."
    lines = [json.dumps({"text": f"Text number {number}: {words}"}) for number in range(searches)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    recipe = {"slots": slots, "steps": STEPS, "step_seconds": STEP_SECONDS, "spread": SPREAD}
    sweep = {
        "name": "scale",
        "task": "toy",
        "models": ["toy/model"],
        "texts": [{"source": "files", "path": "texts.jsonl"}],
        "recipe": recipe,
        "engines": {"count": engines},
        "search": {"retries": PROBES_PER_SEARCH - 1},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return make_plan(load_sweep(path))


def run_once(folder: Path, *, engines: int, slots: int, probes: int) -> None:
    """One run in this process: prints its line."""
    set_variables("simulated")
    import ray
    from ray.cluster_utils import Cluster

    from orchestrator.cluster.executor import RayExecutor
    from orchestrator.cluster.searcher import LedgerSearcher

    plan = plan_of(folder, searches=probes // PROBES_PER_SEARCH, slots=slots, engines=engines)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(NODES):
        cluster.add_node(num_cpus=-(-engines // NODES) * 2)
    ray.init(address=cluster.address, namespace="scale", log_to_driver=False, logging_level=logging.ERROR)
    suggestions: list[float] = []
    suggest = LedgerSearcher.suggest

    def timed(self: LedgerSearcher, trial_id: str) -> Any:
        began = time.thread_time()  # of a processor: on a machine that pretends to be many, a clock shows their load
        try:
            return suggest(self, trial_id)
        finally:
            suggestions.append(time.thread_time() - began)

    begun: set[str] = set()
    """Engines that had something to do."""
    state: list[int] = []
    """Bytes of Tune's folder when it is thrown away."""
    remove = shutil.rmtree

    def weighed(folder: Any, **options: Any) -> None:
        if Path(folder).name.startswith("capsweep-tune-"):
            state.append(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()))
        remove(folder, **options)

    full: list[float] = []
    """Share of all slots that were busy, about once a second, while searches outnumbered slots."""
    counts: list[tuple[float, int]] = []
    """When, and how many verdicts there were until then, at the same times."""
    total = 0

    class Counting(Watcher):
        def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
            nonlocal total
            total += len(verdicts)

        def show_engines(self, progress: Sequence[EngineProgress]) -> None:
            begun.update(engine.name for engine in progress if engine.num_busy)
            if len(begun) == engines and session.ledger.num_open >= engines * slots:
                full.append(sum(engine.num_busy for engine in progress) / (engines * slots))
                counts.append((time.perf_counter(), total))

        def show_message(self, message: str) -> None:
            print(message)

    run = folder / "run"
    began = time.perf_counter()
    try:
        with (
            open_session(plan, str(run)) as session,
            patch.object(LedgerSearcher, "suggest", timed),
            patch.object(shutil, "rmtree", weighed),
        ):
            stats = RayExecutor(None).run(session, stop=Stop(), watcher=Counting())
            seconds = time.perf_counter() - began
            session.finish()
    finally:
        ray.shutdown()
        cluster.shutdown()
    began = time.perf_counter()
    with open_session(plan, str(run)):
        resumed = time.perf_counter() - began
    most = statistics.quantiles(suggestions, n=100)[-1]
    ceiling = engines * slots / (STEPS * STEP_SECONDS)
    middle = "it ended before all slots were full"
    if len(counts) > 1:
        (began, before), (ended, after) = counts[0], counts[-1]
        middle = (
            f"all engines begun and searches for all slots, for {ended - began:.0f} s: {statistics.fmean(full):.0%} of "
            f"all slots busy, {(after - before) / (ended - began):.1f} probes/s of a ceiling of {ceiling:.1f}"
        )
    ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{engines} engines of {slots} slots, {total:,} probes: {seconds:.0f} s; {middle}; "
        f"slots busy, of those with work, {stats.slots_busy:.0%}; "
        f"driver {ram:,.0f} MB; Tune state {max(state, default=0) / 1e6:.1f} MB; {len(suggestions)} suggestions, "
        f"processor's median {1e3 * statistics.median(suggestions):.2f} ms, 99 % under {1e3 * most:.1f} "
        f"ms; resume {resumed:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    cluster = verbs.add_parser("cluster")
    cluster.add_argument("--engines", type=int, default=100)
    cluster.add_argument("--slots", type=int, default=16)
    cluster.add_argument("--probes", type=int, nargs="+", default=[1000])
    alone = verbs.add_parser("alone")
    alone.add_argument("--searches", type=int, default=10_000)
    alone.add_argument("--rows", type=int, default=100_000)
    asked = parser.parse_args()
    if asked.verb == "alone":
        from scale_alone import measure_alone

        measure_alone(searches=asked.searches, rows=asked.rows)
    elif len(asked.probes) == 1:
        with tempfile.TemporaryDirectory() as folder:
            run_once(Path(folder), engines=asked.engines, slots=asked.slots, probes=asked.probes[0])
    else:
        # Each in a process of its own, whose RAM is its own.
        for probes in asked.probes:
            numbers = {"--engines": asked.engines, "--slots": asked.slots, "--probes": probes}
            command = [sys.executable, __file__, "cluster", *(str(word) for pair in numbers.items() for word in pair)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
