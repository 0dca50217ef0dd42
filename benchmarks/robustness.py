"""How robust the memories of a ledger are: in fewer bits, and turned in random directions (`capsweep measure --noise`).

    python benchmarks/robustness.py LEDGER --model FOLDER --texts FILE.jsonl --to RESULT [--count 12] [--threads 2]

LEDGER is one of measure.py. RESULT is a folder: a table of each kind is rewritten there after each memory, and memories
that are in them are not measured again. The figures are drawn beside them (needs kaleido). Prints the tables.
"""

import argparse
import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ledger import SETTINGS, Ledger, key_of

from orchestrator.analysis.bits_ledger import precision_columns
from orchestrator.analysis.robustness import Stored, noise_rows, quantized_rows
from orchestrator.report.export import markdown, noise_table, quantized_table
from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.figures.robustness import bits_that_survive, bound_by_robustness
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import BITS, NOISE, QUANTIZED, SAMPLES, SEARCHES
from tasks.contract import Prover
from tasks.cramming import CrammingTask
from tasks.values import Model, Question

TABLES = {"searches": SEARCHES, "bits": BITS, "quantized": QUANTIZED, "noise": NOISE}


def stored_of(row: dict[str, Any], texts: list[tuple[int, ...]], prover: Prover) -> Stored:
    """The memory of a row of the ledger, with its text."""
    settings = {name: row[name] for name in SETTINGS}
    cut = [text[: row["longest"]] for text in texts]
    tokens = next(text for text in cut if key_of(settings, text, row["seed"]) == row["key"])
    return Stored(
        search_id=row["key"],
        tokens=tokens[: row["exact_prefix"]],
        memory_KD=np.frombuffer(row["memory"], dtype="<f4").reshape(row["num_vectors"], -1),
        prover=prover,
        question=Question(),
    )


def search_of(row: dict[str, Any], texts: str) -> dict[str, Any]:
    """The row of SEARCHES that a run would have."""
    return {
        "search_id": row["key"],
        "model": row["model"],
        "source": f"files:{texts}",
        "num_vectors": row["num_vectors"],
        "capacity_tokens": row["exact_prefix"],
        "capacity_bits": row["nats_without_memory"] / log(2),
        "status": "measured",
    }


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The rows of TABLES for the first memories of the ledger; those of an earlier call are kept."""
    to = Path(arguments.to)
    found: dict[str, list[dict[str, Any]]] = {
        name: pq.read_table(path).to_pylist() if (path := to / f"{name}.parquet").exists() else [] for name in TABLES
    }
    done = {row["search_id"] for row in found["searches"]}
    rows = [row for row in Ledger(Path(arguments.ledger)).rows if row["memory"]][: arguments.count]
    if todo := [row for row in rows if row["key"] not in done]:
        task, model = CrammingTask(), Model(name=arguments.model)
        codec, prover = task.codec(model), task.open_prover(model, Question(), "cpu")
        lines = Path(arguments.texts).read_text().splitlines()
        texts = [codec.encode(json.loads(line)["text"]).tokens for line in lines]
        for row in todo:
            stored = stored_of(row, texts, prover)
            found["bits"].append({"search_id": row["key"], "tokens": len(stored.tokens), **precision_columns(stored)})
            found["quantized"] += quantized_rows(stored)
            found["noise"] += noise_rows(stored)
            found["searches"].append(search_of(row, Path(arguments.texts).name))
            to.mkdir(parents=True, exist_ok=True)
            for name, schema in TABLES.items():
                pq.write_table(pa.Table.from_pylist(found[name], schema=schema), to / f"{name}.parquet")
            angles = [draw["angle_degrees"] for draw in found["noise"] if draw["search_id"] == row["key"]]
            print(
                f"{row['key']}: {len(stored.tokens)} tokens, {min(angles):.2f} to {max(angles):.2f} degrees", flush=True
            )
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger")
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    read = {name: pa.Table.from_pylist(rows, schema=TABLES[name]) for name, rows in measure(arguments).items()}
    tables = ReportTables(probes=PROBES.empty_table(), samples=SAMPLES.empty_table(), **read)
    for table in (quantized_table(tables), noise_table(tables)):
        print(markdown(table))
    for drawn in (bits_that_survive(tables), bound_by_robustness(tables)):
        if drawn is not None:
            drawn.figure.write_image(Path(arguments.to) / f"{drawn.name}.png", scale=2)


if __name__ == "__main__":
    main()
