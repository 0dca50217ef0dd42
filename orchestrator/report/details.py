"""What the page shows when a reader opens a search: its text token by token, and all its probes.

Pure functions from Arrow tables to values that become JSON. Knows nothing of HTML or files.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.tables import SearchRow
from orchestrator.store.passages import pieces

MOST_TOKENS = 200_000
"""Tokens that all searches of a page show together; keeps a page of 2,000 searches to a few megabytes."""
FEWEST_TOKENS = 64
"""Tokens that each search may show, however many searches there are."""
BEYOND = 12
"""Tokens shown after the last one that the memory gives back."""


def search_details(tables: ReportTables, rows: Sequence[SearchRow]) -> list[dict[str, Any]]:
    """One mapping for each of `rows`, in their order."""
    texts = {
        (row["sample_id"], row["model"]): (row["text"], row["token_ends"], row["num_texts"] or 1)
        for row in tables.samples.select(["sample_id", "model", "text", "token_ends", "num_texts"]).to_pylist()
    }
    best = {
        row["search_id"]: (row["sample_id"], row["probe_id"])
        for row in tables.searches.select(["search_id", "sample_id", "probe_id"]).to_pylist()
    }
    columns = [
        *("search_id", "probe_id", "number", "start", "length", "outcome", "reason", "proven_length", "failed_length"),
        *("steps", "token_accuracy", "nats_by_token", "nats_by_token_without_memory", "margin_by_token"),
    ]
    probes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for probe in tables.probes.select(columns).to_pylist():
        probes[probe["search_id"]].append(probe)
    most = max(FEWEST_TOKENS, MOST_TOKENS // max(1, len(rows)))
    return [
        _details(row, probes[row.search_id], best.get(row.search_id, (None, None)), texts, most=most) for row in rows
    ]


def _details(
    row: SearchRow,
    probes: Sequence[dict[str, Any]],
    best: tuple[str | None, str | None],
    texts: dict[tuple[str, str], tuple[str, list[int], int]],
    *,
    most: int,
) -> dict[str, Any]:
    sample_id, probe_id = best
    text, ends, num_texts = texts.get((sample_id or "", row.model), ("", [], 1))
    shown = min(len(ends), most, (row.capacity_tokens or 0) + BEYOND)
    proof = next((probe for probe in probes if probe["probe_id"] == probe_id), None) or {}
    return {
        "id": row.search_id,
        "pieces": pieces(text, ends, num_texts, num_tokens=shown),
        **{
            name: [round(value, 2) for value in (proof.get(column) or [])[:shown]]
            for name, column in (
                ("nats_with_memory", "nats_by_token"),
                ("nats_without_memory", "nats_by_token_without_memory"),
                ("margins", "margin_by_token"),
            )
        },
        "probes": [
            {
                "start": "cold" if probe["start"] == "cold" else "warm",
                "length": probe["length"],
                "outcome": probe["outcome"],
                "proven": probe["proven_length"] or 0,
                "failed": probe["failed_length"],
                "steps": probe["steps"],
                "accuracy": None if probe["token_accuracy"] is None else round(probe["token_accuracy"], 3),
                "reason": probe["reason"],
            }
            for probe in sorted(probes, key=lambda probe: probe["number"] or 0)
        ],
    }
