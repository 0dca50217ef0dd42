"""Measures how a run scales: probes per second, RAM, Tune's state, the time of a suggestion and of a resume.

Run by hand on an idle machine; large numbers take hours:

    python benchmarks/scale.py cluster --engines 100 --probes 1000 3000 10000
    python benchmarks/scale.py alone --searches 10000 --rows 100000

`cluster` runs the toy task, whose engines sleep instead of computing, on Ray, with its engine actors on four nodes that
this machine simulates; the driver, the recorder and the trials are real. `alone` measures the searcher, the store and
the resume without Ray. Each prints one line per measurement; docs/scale.md has the results.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from orchestrator.search.ledger import Ledger
from orchestrator.spec.sweep_file import load_sweep

NODES = 4
STEPS, STEP_SECONDS, SPREAD = 80, 1.0, 0.5
"""A step takes one second, as that of a large model, and a probe takes 40 to 120 steps: on average 80 s in a slot."""
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


class Counting(Watcher):
    """Counts verdicts and busy slots, the latter while every engine is in use and open searches outnumber slots."""

    def __init__(self, ledger: Ledger, *, engines: int, slots: int) -> None:
        self.total = 0
        """Verdicts."""
        self._ledger = ledger
        self._engines = engines
        self._all_slots = engines * slots
        self._begun: set[str] = set()
        """Engines that have had a busy slot."""
        self._full: list[float] = []
        """Share of all slots that were busy, about once a second."""
        self._counts: list[tuple[float, int]] = []
        """(time, verdicts until then), at the same moments."""

    def show_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        self.total += len(verdicts)

    def show_engines(self, progress: Sequence[EngineProgress]) -> None:
        """Count busy slots."""
        self._begun.update(engine.name for engine in progress if engine.num_busy)
        if len(self._begun) == self._engines and self._ledger.num_open >= self._all_slots:
            self._full.append(sum(engine.num_busy for engine in progress) / self._all_slots)
            self._counts.append((time.perf_counter(), self.total))

    def show_message(self, message: str) -> None:
        """Print a message."""
        print(message)

    @property
    def middle(self) -> str:
        """Busy slots and probes per second in the time that is counted, as text."""
        if len(self._counts) < 2:
            return "it ended before all slots were full"
        (began, before), (ended, after) = self._counts[0], self._counts[-1]
        ceiling = self._all_slots / (STEPS * STEP_SECONDS)
        return (
            f"all engines begun and searches for all slots, for {ended - began:.0f} s: "
            f"{statistics.fmean(self._full):.0%} of all slots busy, "
            f"{(after - before) / (ended - began):.1f} probes/s of a ceiling of {ceiling:.1f}"
        )


@contextmanager
def measured_tune() -> Iterator[tuple[list[float], list[int]]]:
    """Gives the processor seconds of each suggestion, and the bytes of Tune's folder when it is removed."""
    from orchestrator.cluster.searcher import LedgerSearcher

    suggestions: list[float] = []
    state: list[int] = []
    suggest, remove = LedgerSearcher.suggest, shutil.rmtree

    def timed(self: LedgerSearcher, trial_id: str) -> Any:
        began = time.thread_time()  # processor time: a clock would include the load of the other simulated nodes
        try:
            return suggest(self, trial_id)
        finally:
            suggestions.append(time.thread_time() - began)

    def weighed(folder: Any, **options: Any) -> None:
        if Path(folder).name.startswith("capsweep-tune-"):
            state.append(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()))
        remove(folder, **options)

    with patch.object(LedgerSearcher, "suggest", timed), patch.object(shutil, "rmtree", weighed):
        yield suggestions, state


def run_once(folder: Path, *, engines: int, slots: int, probes: int) -> None:
    """Do one run in this process and print its line."""
    set_variables("simulated")
    import ray
    from ray.cluster_utils import Cluster

    from orchestrator.cluster.executor import RayExecutor

    plan = plan_of(folder, searches=probes // PROBES_PER_SEARCH, slots=slots, engines=engines)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(NODES):
        cluster.add_node(num_cpus=-(-engines // NODES) * 2)
    ray.init(address=cluster.address, namespace="scale", log_to_driver=False, logging_level=logging.ERROR)
    run = folder / "run"
    began = time.perf_counter()
    try:
        with open_session(plan, str(run)) as session, measured_tune() as (suggestions, state):
            counting = Counting(session.ledger, engines=engines, slots=slots)
            stats = RayExecutor(None).run(session, stop=Stop(), watcher=counting)
            seconds = time.perf_counter() - began
            session.finish()
    finally:
        ray.shutdown()
        cluster.shutdown()
    began = time.perf_counter()
    with open_session(plan, str(run)):
        resumed = time.perf_counter() - began
    most = statistics.quantiles(suggestions, n=100)[-1]
    ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{engines} engines of {slots} slots, {counting.total:,} probes: {seconds:.0f} s; {counting.middle}; "
        f"slots busy, of those with work, {stats.slots_busy:.0%}; "
        f"driver {ram:,.0f} MB; Tune state {max(state, default=0) / 1e6:.1f} MB; {len(suggestions)} suggestions, "
        f"processor time median {1e3 * statistics.median(suggestions):.2f} ms, 99 % under {1e3 * most:.1f} "
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
        # Each in its own process, so that each line has its own RAM.
        for probes in asked.probes:
            numbers = {"--engines": asked.engines, "--slots": asked.slots, "--probes": probes}
            command = [sys.executable, __file__, "cluster", *(str(word) for pair in numbers.items() for word in pair)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
