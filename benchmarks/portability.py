"""Where else the memories of a ledger decode: under other settings here, and in llama.cpp.

    python benchmarks/portability.py decode LEDGER [LEDGER ..] --model FOLDER --texts FILE.jsonl \
        --as dtype=bfloat16 [--as attention=eager ..]
    python benchmarks/portability.py export LEDGER [LEDGER ..] --model FOLDER --texts FILE.jsonl --to DIR

`decode` prints the table of docs/findings.md. `export` writes the memories for llama.cpp; the README beside them says
how it reads them. For the memories of a run there are `capsweep verify --as` and `capsweep export --format`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ledger import SETTINGS, Ledger, key_of

from orchestrator.analysis.memories import write_all
from orchestrator.analysis.portability import decode_under, parse_settings, portable
from orchestrator.analysis.serving import served_files
from tasks.cramming import CrammingTask
from tasks.values import Model, Question

MARGINS = (0.0, 0.03, 0.1, float("inf"))
"""Edges of the bins of margins in the table: thirds of the memories, about."""


def memories_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the ledgers that are of this model and these texts, each with the tokens it gives back."""
    codec = CrammingTask().codec(Model(name=arguments.model))
    texts = [codec.encode(json.loads(line)["text"]).tokens for line in Path(arguments.texts).read_text().splitlines()]
    mine = (Path(arguments.model).name, Path(arguments.texts).name)
    rows = [row for ledger in arguments.ledgers for row in Ledger(Path(ledger)).rows if row["memory"]]
    rows = [row for row in rows if (row["model"], row["texts"]) == mine and row["exact_prefix"]]
    for row in rows:
        settings = {name: row[name] for name in SETTINGS}
        tokens = next(
            t[: row["longest"]] for t in texts if key_of(settings, t[: row["longest"]], row["seed"]) == row["key"]
        )
        row["probe_id"], row["tokens"] = row["key"], tokens[: row["exact_prefix"]]
        row["text"] = codec.decode(row["tokens"])
    return rows


def decode(arguments: argparse.Namespace) -> None:
    """Print one line for each setting."""
    memories = memories_of(arguments)
    margins = {row["probe_id"]: row["margin"] for row in memories}
    edges = list(pairwise(MARGINS))
    heads = [f"margin {low:g} to {high:g}" if high < MARGINS[-1] else f"from {low:g}" for low, high in edges]
    print(f"| setting | exact | {' | '.join(heads)} | largest margin that fails | before the first error |")
    print(f"|{'---|' * (4 + len(heads))}")
    for setting in parse_settings(arguments.settings):
        prover = CrammingTask().open_prover(Model(name=arguments.model), Question(), setting.device, setting.decoding)
        rows = list(decode_under(setting, memories, lambda _, prover=prover: prover))
        found = portable(setting.name, rows, margins)
        shares = [_share([row for row in rows if low <= margins[row["probe_id"]] < high]) for low, high in edges]
        failing = "none" if found.largest_failing is None else f"{found.largest_failing:.3f}"
        cells = [setting.name, f"{found.num_exact} of {found.num_memories}", *shares, failing]
        print(f"| {' | '.join([*cells, f'{found.mean_share:.1%}'])} |", flush=True)


def _share(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(row['exact_prefix'] == row['tokens'] for row in rows)} of {len(rows)}"


def export(arguments: argparse.Namespace) -> None:
    """Write the memories for llama.cpp."""
    memories = memories_of(arguments)
    prover = CrammingTask().open_prover(Model(name=arguments.model), Question(), "cpu")
    prompts = [prover.prompt(row["memory"], num_vectors=row["num_vectors"]) for row in memories]
    entries = [
        {name: row[name] for name in ("model", "margin", "tokens", "text")}
        | {"search_id": row["key"], "width": len(prompt) // 4 // row["num_vectors"]}
        for row, prompt in zip(memories, prompts, strict=True)
    ]
    origin = ", ".join(Path(ledger).name for ledger in arguments.ledgers)
    write_all(Path(arguments.to), served_files("llama.cpp", entries, prompts, origin=origin))
    print(f"{len(entries)} memories in {arguments.to}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("decode", "export"):
        verb = verbs.add_parser(name)
        verb.add_argument("ledgers", nargs="+")
        verb.add_argument("--model", required=True)
        verb.add_argument("--texts", required=True)
        if name == "decode":
            verb.add_argument("--as", dest="settings", action="append", required=True)
        else:
            verb.add_argument("--to", required=True)
    arguments = parser.parse_args()
    (decode if arguments.verb == "decode" else export)(arguments)


if __name__ == "__main__":
    main()
