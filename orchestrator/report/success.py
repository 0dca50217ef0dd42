"""How success falls with length: the share of probes lossless at a length they tried, and of searches that reach it.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or files.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from orchestrator.report.intervals import share_over_clusters
from orchestrator.report.statistics import kaplan_meier
from orchestrator.report.tables import Group, source_kind

MOST_BINS = 15
"""Most bins of length in a curve: with more, each has too few probes; fewer hide the slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessBin:
    """Results of the probes of one group that tried lengths from `shortest` to `longest`."""

    group: Group
    shortest: int
    longest: int
    share: float
    """Share of the lengths tried in this bin that were lossless, averaged first over the probes of a text, then over
    texts: each text counts once however many starts it took."""
    interval: tuple[float, float] | None
    """95 % interval over texts; None for a single text that was neither always lossless nor never."""
    num_probes: int
    num_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachPoint:
    """Share of a group's searches whose capacity is at least `length`."""

    group: Group
    length: int
    share: float


def success_by_length(probes: pa.Table, searches: pa.Table) -> list[SuccessBin]:
    """How often a probe that tried a length was lossless there, by group.

    Every start counts: cold or warm, the first of its search or a later one. A probe that grows was lossless at every
    length up to its proven one and lossy at the length it gave up on; it did not try longer lengths. A probe of a grid
    tried only the length it was asked for. Lengths that were never tried do not count, so this is not the share of
    searches that reach a length (`reach_by_length` is).
    """
    grids = {row["search_id"] for row in searches.select(["search_id", "grid"]).to_pylist() if row["grid"] is not None}
    columns = ["search_id", "model", "source", "num_vectors", "sample_id", "outcome", "length"]
    columns += ["proven_length", "failed_length"]
    measured = [row for row in probes.select(columns).to_pylist() if row["outcome"] != "failed"]
    asked = [row for row in measured if row["search_id"] in grids]
    grown = [row for row in measured if row["search_id"] not in grids]
    votes: dict[tuple[Group, int, int], list[tuple[str, float]]] = defaultdict(list)
    for row, shortest, longest, share in (*_votes_of_grid(asked), *_votes_of_growth(grown)):
        group = (row["model"], source_kind(row["source"]), row["num_vectors"])
        votes[group, shortest, longest].append((str(row["sample_id"]), share))
    bins: list[SuccessBin] = []
    for (group, shortest, longest), shares in sorted(votes.items()):
        share, interval = share_over_clusters(shares)
        bins.append(
            SuccessBin(
                group=group,
                shortest=shortest,
                longest=longest,
                share=share,
                interval=interval,
                num_probes=len(shares),
                num_texts=len({text for text, _ in shares}),
            )
        )
    return bins


Vote = tuple[dict[str, Any], int, int, float]
"""A probe, the first and last length of a bin, and the share of the lengths tried in it that were lossless."""


def _votes_of_grid(rows: Sequence[dict[str, Any]]) -> Iterable[Vote]:
    lengths = {row["length"] for row in rows}
    # Lengths drawn at random seldom repeat, so they share bins.
    width = 1 if len(lengths) <= MOST_BINS else _bin_width(max(lengths))
    for row in rows:
        number = (row["length"] - 1) // width
        yield row, number * width + 1, (number + 1) * width, float(row["outcome"] == "lossless")


def _votes_of_growth(rows: Sequence[dict[str, Any]]) -> Iterable[Vote]:
    width = _bin_width(max((max(row["proven_length"] or 0, row["failed_length"] or 0) for row in rows), default=0))
    for row in rows:
        for number, share in _shares_by_bin(row["proven_length"] or 0, row["failed_length"], width):
            yield row, number * width + 1, (number + 1) * width, share


def _bin_width(longest: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 .. that needs no more than MOST_BINS bins."""
    scale = 1
    while True:
        for digit in (1, 2, 5):
            if longest <= digit * scale * MOST_BINS:
                return digit * scale
        scale *= 10


def _shares_by_bin(proven: int, failed: int | None, width: int) -> Iterable[tuple[int, float]]:
    """(number of a bin, share of the lengths tried in it that were lossless) of one probe."""
    yes = {number: min(width, proven - number * width) for number in range(-(-proven // width))}
    # A length that a start gave up on and yet proved counts as proven.
    no = (failed - 1) // width if failed is not None and failed > proven else None
    for number in yes.keys() | ({no} if no is not None else set()):
        lossless = yes.get(number, 0)
        yield number, lossless / (lossless + (number == no))


def reach_by_length(searches: pa.Table) -> list[ReachPoint]:
    """Share of searches that reach a length, at the lengths where the share changes, by group.

    A censored or open search counts up to the length it proved.
    """
    groups: dict[Group, list[tuple[int, bool]]] = defaultdict(list)
    for row in searches.select(["model", "source", "num_vectors", "status", "capacity_tokens"]).to_pylist():
        ended = (row["capacity_tokens"] or 0, row["status"] == "measured")
        groups[row["model"], source_kind(row["source"]), row["num_vectors"]].append(ended)
    points: list[ReachPoint] = []
    for group, ended in sorted(groups.items()):
        if all(capacity == 0 and not measured for capacity, measured in ended):
            continue
        curve, longest = list(kaplan_meier(ended).curve), max(capacity for capacity, _ in ended)
        if curve[-1][0] < longest:
            curve.append((longest, curve[-1][1]))
        points += [ReachPoint(group=group, length=at, share=share) for at, share in curve]
    return points
