"""The frontier of a run: how many tokens its searches held after each cost, in optimizer steps or in trained tokens.

The starts of a search count one after the other, in the order of their numbers: a start begins at what the starts
before it cost in all, and a search holds the most tokens that any of its starts had given by then.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or files.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from orchestrator.report.intervals import bootstrap_means
from orchestrator.report.tables import CENSORED, UNFINISHED, Group, short_names, source_kind

Unit = Literal["steps", "trained_tokens"]
"""A cost: optimizer steps, or trained tokens."""
Proof = Literal["reached", "certified"]
"""reached: correct teacher forced. certified: given back when the memory that was kept then was decoded."""
PROOFS: tuple[Proof, ...] = ("reached", "certified")
Measure = Literal["tokens", "bits", "bits_per_dimension"]
COLUMNS = [
    *("search_id", "number", "outcome", "steps", "trained_tokens", "steps_by_length", "trained_tokens_by_length"),
    *("certified_steps", "certified_trained_tokens", "certified_lengths", "proven_length", "exact_prefix"),
    *("steps_to_proof", "memory_shape", "nats_by_token_without_memory"),
]
SMALLEST = {"steps": 10, "trained_tokens": 100}
"""Cost at which a curve begins, by unit."""
POINTS = 36
"""Costs at which a curve is drawn, evenly on a logarithmic axis; those at which memories were certified are added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How many tokens one search held, by what it had cost."""

    costs: tuple[int, ...]
    """Where the length rose, ascending."""
    lengths: tuple[int, ...]
    """Tokens held from each of these costs on, ascending."""
    first: int = 0
    """Cost at which it was first looked at what the search holds: memories are decoded at marks, not at every step."""
    spent: int
    """Cost of all starts together."""
    limit: int | None = None
    """Longest length that could be held; None if there is no limit."""
    is_over: bool = True
    """Whether the search ended by itself, so that more of this cost would not have changed what it holds."""

    def at(self, cost: int) -> int:
        """Tokens held after this cost."""
        place = bisect_right(self.costs, cost)
        return self.lengths[place - 1] if place else 0

    def is_censored(self, cost: int) -> bool:
        """Whether what it holds after this cost is a lower bound: it was at its limit, or ended before."""
        return (self.limit is not None and self.at(cost) >= self.limit) or (cost > self.spent and not self.is_over)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """The searches of a group after one cost."""

    cost: int
    mean: float
    """Mean over searches; a lower bound where some are censored."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the mean over texts; None for a single text."""
    num_censored: int
    """Searches of which what they hold is a lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierLine:
    """How much the searches of a group held, by cost."""

    group: Group
    proof: Proof
    measure: Measure
    is_claim: bool
    """Whether the capacity of a search counts these tokens: those certified, if its criterion certifies any."""
    points: tuple[FrontierPoint, ...]
    """From the cost on at which it was known of all searches what they hold."""
    num_searches: int
    num_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One search with a start whose curve is known."""

    sample_id: str
    group: Group
    curves: Mapping[Proof, Curve]
    """Its curve of tokens reached, and of tokens certified unless its criterion is one of teacher forcing."""
    marks: tuple[int, ...]
    """Costs at which memories of its first start were kept to be certified."""
    bits: Sequence[float] | None
    """Bits under the model of its first 0, 1, 2 .. tokens; None if they were not read."""
    num_values: int
    """Values in its memory: k d."""


def frontier(
    probes: pa.Table, searches: pa.Table, unit: Unit, costs: Sequence[int] | None = None
) -> list[FrontierLine]:
    """What each group holds by cost: tokens reached and certified, bits, and bits per dimension.

    Bits are those of certified tokens; of tokens reached, where the criterion is one of teacher forcing.

    Args:
        probes: Rows of PROBES with their curves; searches whose curves are null are left out.
        searches: Rows of SEARCHES.
        unit: The cost.
        costs: Costs at which to look, ascending; None: up to the largest that a search of the group took.
    """
    groups: dict[Group, list[_Search]] = defaultdict(list)
    for search in _searches(probes, searches, unit):
        groups[search.group].append(search)
    return [line for group in sorted(groups) for line in _lines(group, groups[group], unit, costs)]


def group_names(groups: Sequence[Group]) -> dict[Group, str]:
    """Each group's model, with its source and its k where these differ."""
    models = short_names(model for model, _, _ in groups)
    kinds, vectors = {kind for _, kind, _ in groups}, {k for _, _, k in groups}
    return {
        (model, kind, k): ", ".join(
            [models[model], *([kind] if len(kinds) > 1 else []), *([f"k = {k}"] if len(vectors) > 1 else [])]
        )
        for model, kind, k in groups
    }


def _lines(group: Group, members: Sequence[_Search], unit: Unit, costs: Sequence[int] | None) -> Iterator[FrontierLine]:
    everywhere = _places(members, unit) if costs is None else costs
    proofs: list[Proof] = [proof for proof in PROOFS if all(proof in search.curves for search in members)]
    for proof in proofs:
        known = max(search.curves[proof].first for search in members)
        if not (places := [cost for cost in everywhere if cost >= known]):
            continue
        held = np.array([[search.curves[proof].at(cost) for cost in places] for search in members])
        censored = np.array([[search.curves[proof].is_censored(cost) for cost in places] for search in members])
        values: dict[Measure, Callable[[_Search, int], float]] = {"tokens": lambda search, length: float(length)}
        if proof == proofs[-1] and all(search.bits is not None for search in members):
            values |= {"bits": _bits, "bits_per_dimension": lambda s, length: _bits(s, length) / s.num_values}
        for measure, value in values.items():
            table = [[value(s, int(length)) for length in row] for s, row in zip(members, held, strict=True)]
            intervals = bootstrap_means(np.array(table), [search.sample_id for search in members])
            yield FrontierLine(
                group=group,
                proof=proof,
                measure=measure,
                is_claim=proof == proofs[-1],
                points=tuple(
                    FrontierPoint(cost=cost, mean=float(mean), interval=interval, num_censored=int(count))
                    for cost, mean, interval, count in zip(
                        places, np.mean(table, axis=0), intervals, censored.sum(axis=0), strict=True
                    )
                ),
                num_searches=len(members),
                num_texts=len({search.sample_id for search in members}),
            )


def _places(members: Sequence[_Search], unit: Unit) -> list[int]:
    """Costs evenly spaced on a logarithmic axis, and those at which memories were certified."""
    most = max(curve.spent for search in members for curve in search.curves.values())
    least = min(SMALLEST[unit], most)
    places = {round(float(cost)) for cost in np.geomspace(max(1, least), max(1, most), POINTS)}
    # Memories of all texts are certified at the same steps, but at different numbers of trained tokens.
    marks = {mark for search in members for mark in search.marks} if unit == "steps" else set[int]()
    return sorted(places | marks)


def _bits(search: _Search, length: int) -> float:
    assert search.bits is not None, "only lines of searches with bits ask for them"
    return search.bits[min(length, len(search.bits) - 1)]


def _searches(probes: pa.Table, searches: pa.Table, unit: Unit) -> Iterator[_Search]:
    starts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in probes.select(COLUMNS).to_pylist():
        if row["outcome"] != "failed":
            starts[row["search_id"]].append(row)
    for search in searches.to_pylist():
        rows = sorted(starts[search["search_id"]], key=lambda row: row["number"])
        if not rows or any(row["proven_length"] and not row["steps_by_length"] for row in rows):
            continue
        proofs = PROOFS if search["criterion"] == "exact" else PROOFS[:1]
        limit = search["limit"] if search["status"] in CENSORED else None
        is_over = search["status"] not in UNFINISHED
        longest = max((row["nats_by_token_without_memory"] or [] for row in rows), key=len)
        is_whole = len(longest) >= max(row["proven_length"] or 0 for row in rows)
        yield _Search(
            sample_id=search["sample_id"],
            group=(search["model"], source_kind(search["source"]), search["num_vectors"]),
            curves={proof: curve_of(rows, unit, proof, limit=limit, is_over=is_over) for proof in proofs},
            marks=tuple(rows[0]["certified_steps"] or ()),
            bits=[0.0, *(np.cumsum(longest) / math.log(2)).tolist()] if is_whole else None,
            num_values=math.prod(rows[0]["memory_shape"] or (1,)),
        )


def curve_of(
    starts: Sequence[Mapping[str, Any]], unit: Unit, proof: Proof, *, limit: int | None = None, is_over: bool = True
) -> Curve:
    """The curve of one search.

    Args:
        starts: Rows of PROBES with a verdict, in the order of their numbers.
        unit: The cost.
        proof: Whose lengths: those reached, or those certified.
        limit: Longest length that the search could hold; None if there is no limit.
        is_over: Whether the search ended by itself.
    """
    spent = 0
    points: list[tuple[int, int]] = []
    for start in starts:
        given = _reached(start, unit) if proof == "reached" else _certified(start, unit)
        points += [(spent + cost, length) for cost, length in given]
        spent += start[unit] or 0
    costs, lengths, longest = [], [], 0
    for cost, length in sorted(points):
        if length > longest:
            costs.append(cost)
            lengths.append(length)
            longest = length
    first = min((cost for cost, _ in points), default=spent) if proof == "certified" else 0
    return Curve(costs=tuple(costs), lengths=tuple(lengths), first=first, spent=spent, limit=limit, is_over=is_over)


def _reached(start: Mapping[str, Any], unit: Unit) -> list[tuple[int, int]]:
    return [(cost, length) for length, cost in enumerate(start[f"{unit}_by_length"] or (), 1)]


def _certified(start: Mapping[str, Any], unit: Unit) -> list[tuple[int, int]]:
    """What was decoded: the memories kept at marks, and the one kept when most was reached."""
    marks = zip(start[f"certified_{unit}"] or (), start["certified_lengths"] or (), strict=True)
    reached = start[f"{unit}_by_length"] or ()
    return [*marks, (reached[-1], start["exact_prefix"] or 0)] if reached else list(marks)
