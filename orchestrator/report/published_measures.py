"""The measures of "Cramming 1568 Tokens into a Single Vector and Back Again", by the conventions of its tables.

Pure functions from Arrow tables to values. Knows nothing of published figures, HTML or run directories.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa

from orchestrator.report.tables import Group, source_kind
from orchestrator.store.probe_columns import is_certified

COLUMNS = [
    *("model", "source", "num_vectors", "outcome", "criterion", "decode_from", "measured_length", "token_accuracy"),
    *("token_accuracy_without_memory", "nats_without_memory", "nats_with_memory"),
]

THRESHOLD = 0.99
"""Accuracy that a length must reach to count for decoding capacity. Gains are averaged only over probes of at most this
accuracy, whose memory was full."""
DRAWN_SOURCE = "random"
"""Random words, whose lengths are drawn: a single text that reaches the threshold is enough. For all other sources the
mean over the texts of a length must reach it."""
ROUNDING = 1e-9
"""Tolerance of a comparison with the threshold: 99 of 100 tokens correct are 0.99, however the last bit is rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasures:
    """The published measures of one model, source and number of vectors."""

    model: str
    source: str
    num_vectors: int
    num_probes: int
    decoding_capacity: int | None
    """Tokens; None if no length reaches the threshold."""
    token_gain: tuple[float, float | None] | None
    """Mean and standard deviation, in tokens; None if no probe counts."""
    information_gain_nats: tuple[float, float | None] | None
    """The same in nats."""


def published_measures(probes: pa.Table) -> list[GroupMeasures]:
    """The measures of every group of `cramming` probes under a teacher-forced criterion.

    Source: "Cramming 1568 Tokens into a Single Vector and Back Again" (ACL 2025), section 3 and table 1.
    """
    # A certified search asks other lengths of every text, so none of its lengths has a mean over texts.
    asked = (row for row in probes.select(["task", *COLUMNS]).to_pylist() if _is_published(row))
    groups = _scored_groups(asked)
    return [_measures(key, groups[key]) for key in sorted(groups)]


def _is_published(row: Mapping[str, Any]) -> bool:
    return row["task"] == "cramming" and not is_certified(row["criterion"])


def decoding_capacities(probes: pa.Table, searches: pa.Table) -> dict[Group, int | None]:
    """Decoding capacity of every group whose searches asked for a grid of lengths, whatever their criterion.

    Args:
        probes: Rows of PROBES.
        searches: Rows of SEARCHES, whose column `grid` marks those that asked for one.
    """
    groups = _scored_groups(_of_grids(probes, searches))
    return {key: _decoding_capacity(key[1], groups[key]) for key in sorted(groups)}


def accuracies_by_length(probes: pa.Table, searches: pa.Table) -> dict[Group, dict[int, list[tuple[str, float]]]]:
    """For the groups of `decoding_capacities`: (sample_id, accuracy over scored tokens) of each probe by length."""
    found: dict[Group, dict[int, list[tuple[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(_of_grids(probes, searches), key=lambda row: row["measured_length"] or 0):
        if row["outcome"] != "failed":
            group = (row["model"], source_kind(row["source"]), row["num_vectors"])
            found[group][row["measured_length"]].append((str(row["sample_id"]), _scored(row)["accuracy"]))
    return {group: dict(found[group]) for group in sorted(found)}


def _of_grids(probes: pa.Table, searches: pa.Table) -> list[dict[str, Any]]:
    grids = {row["search_id"] for row in searches.select(["search_id", "grid"]).to_pylist() if row["grid"] is not None}
    columns = ["search_id", "sample_id", *COLUMNS]
    return [row for row in probes.select(columns).to_pylist() if row["search_id"] in grids]


def _scored_groups(rows: Iterable[Mapping[str, Any]]) -> dict[Group, list[dict[str, float]]]:
    groups: dict[Group, list[dict[str, float]]] = defaultdict(list)
    for row in rows:
        if row["outcome"] != "failed":
            groups[row["model"], source_kind(row["source"]), row["num_vectors"]].append(_scored(row))
    return groups


def _scored(row: Mapping[str, Any]) -> dict[str, float]:
    """The measures of one probe over the tokens that are scored.

    Where t_1 is given, sums over the other L - 1 tokens are scaled to L: the published sums are means times the length.
    """
    length = row["measured_length"]
    given = int(row["decode_from"] == "memory+first_token")
    scored = max(1, length - given)
    correct, correct_without_memory = (
        length * row[name] - given for name in ("token_accuracy", "token_accuracy_without_memory")
    )
    scale = length / scored
    return {
        "length": length,
        "accuracy": correct / scored,
        "token_gain": (correct - correct_without_memory) * scale,
        "information_gain": (row["nats_without_memory"] - row["nats_with_memory"]) * scale,
    }


def _decoding_capacity(source: str, rows: Sequence[Mapping[str, float]]) -> int | None:
    accuracy_of = max if source == DRAWN_SOURCE else fmean
    by_length: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_length[int(row["length"])].append(row["accuracy"])
    reached = [length for length, accuracies in by_length.items() if accuracy_of(accuracies) >= THRESHOLD - ROUNDING]
    return max(reached, default=None)


def _measures(key: Group, rows: Sequence[Mapping[str, float]]) -> GroupMeasures:
    model, source, num_vectors = key
    counted = [row for row in rows if row["accuracy"] <= THRESHOLD + ROUNDING]
    return GroupMeasures(
        model=model,
        source=source,
        num_vectors=num_vectors,
        num_probes=len(rows),
        decoding_capacity=_decoding_capacity(source, rows),
        token_gain=mean_and_sd([row["token_gain"] for row in counted]),
        information_gain_nats=mean_and_sd([row["information_gain"] for row in counted]),
    )


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Mean and standard deviation (None for a single value); None without a value."""
    return (fmean(values), stdev(values) if len(values) > 1 else None) if values else None
