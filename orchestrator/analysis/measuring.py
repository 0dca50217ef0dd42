"""Measurements of a finished run that need its models: the tables that `capsweep measure` writes.

Knows nothing of Ray or of how memories came to be.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.analysis.bits_ledger import bits_row
from orchestrator.analysis.lines import line_rows
from orchestrator.analysis.memories import Provers, refuse_without_texts
from orchestrator.analysis.robustness import Stored, noise_rows, quantized_rows
from orchestrator.errors import BadInput
from orchestrator.progress import tracked
from orchestrator.runs.directory import Run
from orchestrator.store.schema import BITS_FILE, LINES_FILE, MEASURED, NOISE_FILE, QUANTIZED_FILE

LINES_PER_GROUP = 12
"""Most texts whose lines are measured, for each model and k: the mean over so many is enough."""


def measure_run(run: Run, *, device: str = "auto", noise: bool = False) -> dict[str, pa.Table]:
    """The tables by file; that of noise only if it is asked for.

    Raises:
        BadInput: when a model is not the one that the run measured, or noise is asked for and texts need not
            come out of their memories by the run's criterion.
    """
    refuse_without_texts(run)
    question = run.sweep.question()
    if noise and question.criterion is not None:
        raise BadInput(
            f"{run.files.url}: --noise asks how far a memory can be turned while its whole text comes out of it alone; "
            f"found criterion: {{teacher_forced: {question.criterion}}}, under which it need not; wanted criterion: "
            "exact or {margin: M}. Run `capsweep measure` without --noise."
        )
    searches = [row for row in run.searches().to_pylist() if row["probe_id"] is not None]
    columns = ("probe_id", "attempt", "search_id", "proven_length", "memory", "memory_shape")
    memories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in run.probes(columns).to_pylist():
        # Proven by the run's criterion: with t_1 given, or at 0.99, decoding from the memory alone may give nothing.
        if row["memory"] is not None and row["proven_length"]:
            memories[row["search_id"]].append(row)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in (BITS_FILE, LINES_FILE, QUANTIZED_FILE, *([NOISE_FILE] if noise else []))
    }
    provers = Provers(run, device, [search["model"] for search in searches])
    num_lines: dict[tuple[str, int], int] = defaultdict(int)
    for search in tracked(sorted(searches, key=lambda row: row["model"]), "measuring texts and memories"):
        prover, held = provers.of(search["model"]), memories[search["search_id"]]
        sample = run.sample(search["model"], search["sample_id"])
        best = next((row for row in held if row["probe_id"] == search["probe_id"]), None)
        if best is not None:
            stored = Stored(
                search_id=search["search_id"],
                tokens=sample["tokens"][: search["capacity_tokens"]],
                context=sample["context"] or (),
                memory_KD=np.frombuffer(best["memory"], dtype="<f4").reshape(best["memory_shape"]),
                prover=prover,
                question=question,
            )
            rows[BITS_FILE].append(bits_row(search, sample, stored))
            rows[QUANTIZED_FILE] += quantized_rows(stored)
            if noise:
                rows[NOISE_FILE] += noise_rows(stored)
        if len(held) > 1 and num_lines[search["model"], search["num_vectors"]] < LINES_PER_GROUP:
            num_lines[search["model"], search["num_vectors"]] += 1
            rows[LINES_FILE] += line_rows(search, sample, held, prover)
    return {name: pa.Table.from_pylist(found, schema=MEASURED[name]) for name, found in rows.items()}
