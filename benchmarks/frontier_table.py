"""The frontier of a ledger as a table: tokens, bits and bits per dimension at optimizer steps and trained tokens.

    python benchmarks/frontier_table.py LEDGER --model FOLDER --texts FILE.jsonl [--label LABEL]
        [--steps 50 100 200 400] [--trained 1000 4000 10000 40000]

The same numbers as `capsweep report --at-steps` gives for a run, with 95 % intervals over texts. What a text costs
without a memory is computed by the model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from ledger import SETTINGS, Ledger, key_of

from orchestrator.report.frontier import FrontierPoint, Unit, frontier
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SEARCHES
from tasks.cramming import CrammingTask
from tasks.language_model import LanguageModel
from tasks.scoring import score_without_memory
from tasks.values import Model, Question


def tables_of(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> tuple[pa.Table, pa.Table]:
    """The tables of probes and searches that a run would have, as far as a frontier reads them."""
    described = Model(name=arguments.model)
    codec, model = CrammingTask().codec(described), LanguageModel(described, device="cpu")
    texts = [codec.encode(json.loads(line)["text"]).tokens for line in Path(arguments.texts).read_text().splitlines()]
    probes, searches = [], []
    for row in rows:
        settings = {name: row[name] for name in SETTINGS}
        cut = (text[: row["longest"]] for text in texts)
        tokens = next(text for text in cut if key_of(settings, text, row["seed"]) == row["key"])
        reached = max(row["exact_prefix"], len(row["steps_by_length"]))
        nats = score_without_memory(model, tokens[:reached], question=Question()).nats_by_token
        at_limit = row["ended_at_limit"]
        is_over = row["budget"] is None or row["trained_tokens"] < row["budget"]
        same = {"search_id": row["key"], "sample_id": row["key"], "model": row["model"], "source": row["texts"]}
        searches.append(
            {
                **same,
                "num_vectors": row["num_vectors"],
                "criterion": "exact",
                "limit": row["longest"],
                # A start that spent its trained tokens was still rising, as a search that is open.
                "status": "at_max_length" if at_limit else "measured" if is_over else "open",
            }
        )
        probes.append(
            {
                **{name: row.get(name) for name in PROBES.names},
                **same,
                "number": 0,
                "outcome": "lossless",
                "proven_length": row["exact_prefix"],
                "memory_shape": [row["num_vectors"], model.embedding_width],
                "nats_by_token_without_memory": nats,
                "memory": None,
            }
        )
    return pa.Table.from_pylist(probes, schema=PROBES), pa.Table.from_pylist(searches, schema=SEARCHES)


def cell(point: FrontierPoint | None, decimals: int) -> str:
    """Mean and interval; `≥` where a text is a lower bound."""
    if point is None:
        return ""
    interval = "" if point.interval is None else " [{:.{d}f}, {:.{d}f}]".format(*point.interval, d=decimals)
    return f"{'≥ ' if point.num_censored else ''}{point.mean:.{decimals}f}{interval}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger")
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--label")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--trained", type=int, nargs="+", default=[1000, 4000, 10_000, 20_000, 40_000])
    arguments = parser.parse_args()
    rows = [row for row in Ledger(Path(arguments.ledger)).rows if arguments.label in (None, row["label"])]
    probes, searches = tables_of(rows, arguments)
    costs: list[tuple[Unit, list[int]]] = [("steps", arguments.steps), ("trained_tokens", arguments.trained)]
    for unit, places in costs:
        print(f"\n| {unit.replace('_', ' ')} | reached, teacher forced | certified | bits | bits per dimension |")
        print("|---|---|---|---|---|")
        lines = {(line.proof, line.measure): line for line in frontier(probes, searches, unit, places)}
        shown = [("reached", "tokens", 1), ("certified", "tokens", 1), ("certified", "bits", 0)]
        shown.append(("certified", "bits_per_dimension", 2))
        for place in places:
            cells = []
            for proof, measure, decimals in shown:
                points = {point.cost: point for point in lines[proof, measure].points}  # pyright: ignore[reportArgumentType]
                cells.append(cell(points.get(place), decimals))
            print(f"| {place:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
