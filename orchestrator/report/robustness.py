"""What memories survive, by model: the bits that are left in each format, and how far each memory can be turned.

Pure functions from Arrow tables to values. Knows nothing of files or figures.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from statistics import fmean
from typing import Any

import numpy as np

from orchestrator.analysis.quantization import FLOATS
from orchestrator.report.figures.canvas import ReportTables

FLOAT_BITS = 32
"""Bits of a value of a memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """The memories of one model, stored in one format."""

    model: str
    format: str
    """Such as float16, int4 (one scale a vector) or int4/32 (one scale a block of 32 values)."""
    block: int | None
    """Values that share a scale; None: all of a vector, or no scale."""
    num_memories: int
    num_lossless: int
    """Memories that still meet the run's criterion."""
    value_bits: float
    """Bits stored for each value, scales included."""
    stored_bits: int
    """Bits stored for all of them."""
    proven_bits: float
    """Capacities of all of them, in bits of the model."""
    surviving_bits: float
    """Capacities of those that still meet the criterion, in bits of the model."""
    turn_degrees: float | None
    """Mean over the memories of the largest angle by which the format turns a vector; None for floats."""

    @property
    def share(self) -> float:
        """Share of the proven bits that survives."""
        return self.surviving_bits / (self.proven_bits or 1)

    @property
    def bits_per_stored_bit(self) -> float:
        """Bits that survive for each bit that is stored."""
        return self.surviving_bits / self.stored_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """One memory that was turned in random directions until its text was lost."""

    search_id: str
    model: str
    num_vectors: int
    width: int
    """Dimensions of a vector."""
    tokens: int
    proven_bits: float
    """Its capacity, in bits of the model."""
    angles: tuple[float, ...]
    """Largest angle of each direction at which the text still comes out, in degrees."""
    bound_bits: float | None
    """Most bits of memories this robust, by the smallest of the angles; None if that is 0."""
    area_bits: float | None
    """Most bits of memories with a region as large as this one's, by the mean area of the caps of all its angles; None
    if all are 0."""

    @property
    def angle(self) -> float:
        """The smallest of the angles: so robust is the memory."""
        return min(self.angles)


def survived(tables: ReportTables) -> list[Survived]:
    """One value for each model and format, the formats from the finest."""
    searches = {row["search_id"]: row for row in tables.searches.to_pylist()}
    ledger = {row["search_id"]: row for row in tables.bits.to_pylist() if row["search_id"] in searches}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in [*_floats(ledger), *(row for row in tables.quantized.to_pylist() if row["search_id"] in ledger)]:
        groups[searches[row["search_id"]]["model"], row["format"]].append(row)
    found: list[Survived] = []
    for (model, name), rows in groups.items():
        bits = {row["search_id"]: searches[row["search_id"]]["capacity_bits"] or 0.0 for row in rows}
        turns = [row["turn_degrees"] for row in rows if row["turn_degrees"] is not None]
        stored = sum(8 * row["bytes"] for row in rows)
        found.append(
            Survived(
                model=model,
                format=name,
                block=rows[0]["block"],
                num_memories=len(rows),
                num_lossless=sum(row["lossless"] for row in rows),
                value_bits=FLOAT_BITS * stored / sum(8 * ledger[row["search_id"]]["float32_bytes"] for row in rows),
                stored_bits=stored,
                proven_bits=sum(bits.values()),
                surviving_bits=sum(bits[row["search_id"]] for row in rows if row["lossless"]),
                turn_degrees=fmean(turns) if turns else None,
            )
        )
    return sorted(found, key=lambda one: (one.model, -one.value_bits))


def _floats(ledger: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The floats of BITS as rows of QUANTIZED."""
    for search_id, row in ledger.items():
        for name in FLOATS:
            lossless = row[f"{name}_lossless"]
            yield {
                "search_id": search_id,
                "format": name,
                "block": None,
                "bytes": row[f"{name}_bytes"],
                "turn_degrees": None,
                # Rows before schema 4 hold only the prefix.
                "lossless": row[f"{name}_exact_prefix"] == row["tokens"] if lossless is None else lossless,
            }


def turned_memories(tables: ReportTables) -> list[Turned]:
    """One value for each memory that was turned."""
    searches = {row["search_id"]: row for row in tables.searches.to_pylist()}
    draws: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.noise.to_pylist():
        if row["search_id"] in searches:
            draws[row["search_id"]].append(row)
    return [
        Turned(
            search_id=search_id,
            model=searches[search_id]["model"],
            num_vectors=searches[search_id]["num_vectors"],
            width=rows[0]["width"],
            tokens=rows[0]["tokens"],
            proven_bits=searches[search_id]["capacity_bits"] or 0.0,
            angles=tuple(row["angle_degrees"] for row in rows),
            bound_bits=min(rows, key=lambda row: row["angle_degrees"])["bound_bits"],
            area_bits=_by_area([row["bound_bits"] for row in rows]),
        )
        for search_id, rows in draws.items()
    ]


def _by_area(bits: list[float | None]) -> float | None:
    """Bits by the mean area of caps, each given as the bits by its own area; None is a cap of no area."""
    known = [-each for each in bits if each is not None]
    return float(log2(len(bits)) - np.logaddexp2.reduce(known)) if known else None
