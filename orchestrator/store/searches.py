"""The searches table: one row per search, first as planned, then derived from the rows of its probes.

Knows nothing of files, Ray or torch.
"""

import math
from collections import defaultdict
from dataclasses import fields
from typing import Any

import pyarrow as pa

from orchestrator.search.ledger import Ledger, Search
from orchestrator.search.policy import SearchSettings
from orchestrator.store.probe_columns import verdicts_of
from orchestrator.store.schema import SEARCHES
from tasks.facts import ModelFacts

BITS_PER_PARAMETER = 16
"""Bits that one element of a memory holds in the theoretical capacity: those of half precision, as published."""
GAINS = (
    *("capacity_nats", "capacity_bits", "bits_per_dimension", "token_gain"),
    *("information_gain_nats", "information_gain_bits", "utilization"),
)
"""Measures of a search that are 0 where nothing was proven."""


def theoretical_tokens(facts: ModelFacts, *, num_vectors: int) -> float:
    """Tokens that k vectors could hold if all of their bits were used: k d b / log2 V.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 3.
    """
    return num_vectors * facts.memory_width * BITS_PER_PARAMETER / math.log2(facts.vocabulary)


def searches_of(table: pa.Table) -> list[Search]:
    """The searches in a table of SEARCHES, in its order."""
    rows = table.select([field.name for field in fields(Search)]).to_pylist()
    return [Search(**{**row, "grid": None if row["grid"] is None else tuple(row["grid"])}) for row in rows]


def derive_searches(planned: pa.Table, probes: pa.Table, settings: SearchSettings) -> pa.Table:
    """The rows of SEARCHES for the searches of `planned`, in its order, derived from the rows of `probes`.

    Args:
        planned: Rows of SEARCHES, as planned or as derived before.
        probes: Rows of PROBES; `memory` is not needed.
        settings: Settings of the search policy.
    """
    ledger = Ledger(searches_of(planned), settings, verdicts_of(probes))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in probes.to_pylist():
        rows[row["search_id"]].append(row)
    derived = [_derive(search, rows[search["search_id"]], ledger) for search in planned.to_pylist()]
    return pa.Table.from_pylist(derived, schema=SEARCHES)


def _derive(search: dict[str, Any], rows: list[dict[str, Any]], ledger: Ledger) -> dict[str, Any]:
    bracket = ledger.bracket(search["search_id"])
    best = next((row for row in rows if row["probe_id"] == bracket.proven_by and row["outcome"] != "failed"), None)
    derived = {
        **search,
        # A search without a verdict says nothing about the model: its capacity is null, not 0.
        "capacity_tokens": bracket.proven if bracket.num_answered else None,
        "status": ledger.status(search["search_id"]),
        "smallest_failed": bracket.smallest_failed,
        "probes": len(rows),
        "steps": sum(row["steps"] or 0 for row in rows),
        "trained_tokens": sum(row["trained_tokens"] or 0 for row in rows),
        "seconds": sum(row["seconds"] or 0.0 for row in rows),
        "probe_id": bracket.proven_by,
        "restarts": len({row["number"] for row in rows if row["number"] > 0 and row["outcome"] != "failed"}),
    }
    if best is None:
        return {**derived, **dict.fromkeys(GAINS, 0.0 if bracket.num_answered else None)}
    capacity_bits = best["proven_nats_without_memory"] / math.log(2)
    gain_nats = best["proven_nats_without_memory"] - best["proven_nats_with_memory"]
    return {
        **derived,
        "capacity_nats": best["proven_nats_without_memory"],
        "capacity_bits": capacity_bits,
        "bits_per_dimension": capacity_bits / math.prod(best["memory_shape"]),
        "token_gain": best["proven_token_gain"],
        "information_gain_nats": gain_nats,
        "information_gain_bits": gain_nats / math.log(2),
        "utilization": best["proven_token_gain"] / search["theoretical_tokens"],
        "margin": best["margin"],
        "exact_in_float32": best["exact_in_float32"],
        **{name: best[name] for name in ("token_accuracy", "token_accuracy_without_memory", "first_error")},
    }
