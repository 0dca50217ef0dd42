"""Power laws of capacity: against vectors in the memory, the size of the model, and what it was trained on before.

A law is fitted to means over texts by least squares of their logarithms, and only to FEWEST_POINTS or more. A mean that
is a lower bound, because a text ended first, is no point of a law.

Pure functions from Arrow tables to values. Knows nothing of figures, HTML or files.
"""

# Axes: R resamples, C clusters, P points.

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from orchestrator.report.intervals import draws_of
from orchestrator.report.tables import CENSORED, UNFINISHED, short_names, source_kind, text_hashes

FEWEST_POINTS = 4
"""Points with different values of the axis that a fit needs: a line through three says nothing about its misfit."""
MODELS = pa.schema(
    [
        ("model", pa.string()),
        ("base", pa.string()),
        ("revision", pa.string()),
        ("embedding_width", pa.int32()),
        ("num_layers", pa.int32()),
        ("num_parameters", pa.int64()),
    ]
)
"""One row per model, from a run's provenance: its name in rows, the name that the sweep gave, the revision asked for,
and its sizes; null where an earlier version did not record them."""
TRAINED_TOKENS = re.compile(r"tokens?[-_]?(\d+(?:\.\d+)?)([KMBT])", re.IGNORECASE)
TRAINED_STEPS = re.compile(r"step[-_]?(\d+)", re.IGNORECASE)
"""How the names of checkpoints state their pre-training: `step1000-tokens4B`, `step1000`."""
MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

Axis = Literal["vectors", "width", "layers", "parameters", "trained_tokens", "trained_steps"]
AXES: Mapping[Axis, str] = {
    "vectors": "vectors in the memory (k)",
    "width": "width of the input embedding (d)",
    "layers": "layers",
    "parameters": "parameters",
    "trained_tokens": "tokens of pre-training",
    "trained_steps": "steps of pre-training",
}
SIZES: Mapping[Axis, str] = {"width": "embedding_width", "layers": "num_layers", "parameters": "num_parameters"}
"""Axes along which models differ, and their columns of MODELS."""
CAPACITIES = {"tokens": "capacity_tokens", "bits": "capacity_bits"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPoint:
    """Mean capacity at one place of an axis."""

    at: float
    mean: float
    """Over all texts, in the law's unit."""
    model: str
    num_texts: int
    is_bound: bool
    """Whether some searches are censored: the fit leaves the point out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """capacity = scale x^exponent, and how sure and how good it is."""

    exponent: float
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the exponent; None where too few resamples have a line."""
    resampled: Literal["texts", "models"]
    """What was drawn with replacement for the interval."""
    scale: float
    """Capacity at x = 1, in the unit of its points."""
    misfit: float
    """Factor by which points lie off the law: exp of the standard deviation of ln capacity around it (n - 2)."""

    def at(self, place: float) -> float:
        """Capacity at a place of the axis."""
        return self.scale * place**self.exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Capacity along one axis, with everything else of the sweep fixed, and its law."""

    axis: Axis
    of: str
    """What is fixed: model, kind of source and k, as far as the axis is not one of them."""
    unit: Literal["tokens", "bits"]
    points: tuple[LawPoint, ...]
    """In the order of the axis."""
    law: Law | None
    """None with fewer than FEWEST_POINTS places that can be fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """Finished searches of one model, kind of source and k."""

    model: str
    kind: str
    num_vectors: int
    values: tuple[tuple[str, float], ...]
    """(text, capacity) of each search."""
    is_bound: bool


def laws(searches: pa.Table, samples: pa.Table, models: pa.Table) -> list[Series]:
    """Capacity along every axis that varies in these tables, in tokens and in bits, each with its law if it has one.

    Args:
        searches: Rows of SEARCHES.
        samples: Rows of SAMPLES, whose hashes tell which texts of several models are the same.
        models: Rows of MODELS.
    """
    about = {row["model"]: row for row in models.to_pylist()}
    found: list[Series] = []
    for unit, column in CAPACITIES.items():
        cells = _cells(searches, samples, column)
        names = short_names(cell.model for cell in cells)
        for axis in AXES:
            lines: dict[str, list[tuple[float, _Cell]]] = defaultdict(list)
            for cell in cells:
                at, of = _place(axis, cell, about.get(cell.model, {}), names)
                if at:
                    lines[of].append((at, cell))
            if axis in SIZES:
                lines = {of: _last_checkpoints(line, about) for of, line in lines.items()}
            found += [
                _series(axis, of, unit, sorted(line, key=lambda pair: pair[0]))  # pyright: ignore[reportArgumentType]
                for of, line in lines.items()
                if len({at for at, _ in line}) > 1
            ]
    return found


def pretraining_of(name: str) -> tuple[Axis, float] | None:
    """What a checkpoint was trained on before, as its name states it; None if it does not."""
    if stated := TRAINED_TOKENS.search(name):
        return "trained_tokens", float(stated[1]) * MULTIPLES[stated[2].upper()]
    if stated := TRAINED_STEPS.search(name):
        return "trained_steps", float(stated[1])
    return None


def _cells(searches: pa.Table, samples: pa.Table, column: str) -> list[_Cell]:
    hashes = text_hashes(samples)
    rows: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in searches.to_pylist():
        if row["status"] not in UNFINISHED and row[column] is not None:
            rows[row["model"], source_kind(row["source"]), row["num_vectors"]].append(row)
    return [
        _Cell(
            model=model,
            kind=kind,
            num_vectors=num_vectors,
            values=tuple(
                (hashes.get((model, row["sample_id"])) or row["sample_id"], float(row[column])) for row in members
            ),
            is_bound=any(row["status"] in CENSORED for row in members),
        )
        for (model, kind, num_vectors), members in sorted(rows.items())
    ]


def _place(axis: Axis, cell: _Cell, about: Mapping[str, Any], names: Mapping[str, str]) -> tuple[float | None, str]:
    """Where a cell lies on the axis (None if it has no place there), and what is fixed along it."""
    fixed_k = f"{cell.kind}, k = {cell.num_vectors}"
    if axis == "vectors":
        return float(cell.num_vectors), f"{names[cell.model]}, {cell.kind}"
    if axis in SIZES:
        return about.get(SIZES[axis]), fixed_k
    trained, stated = _pretraining(cell.model, about)
    at = stated[1] if stated is not None and stated[0] == axis else None
    return at, f"{trained.rpartition('/')[2]}, {fixed_k}"


def _pretraining(model: str, about: Mapping[str, Any]) -> tuple[str, tuple[Axis, float] | None]:
    """Which model was trained, the same for all of its checkpoints, and for how long, as far as names state it."""
    base = about.get("base") or model
    stated = pretraining_of(about.get("revision") or "") or pretraining_of(base)
    return TRAINED_STEPS.sub("", TRAINED_TOKENS.sub("", base)).rstrip("-_/@"), stated


def _last_checkpoints(
    line: Sequence[tuple[float, _Cell]], about: Mapping[str, Mapping[str, Any]]
) -> list[tuple[float, _Cell]]:
    """The line without earlier checkpoints: of those of one model, the one that was trained longest."""
    last: dict[str, tuple[float, tuple[float, _Cell]]] = {}
    for at, cell in line:
        trained, stated = _pretraining(cell.model, about[cell.model])
        key, long = (cell.model, 0.0) if stated is None else (trained, stated[1])
        if key not in last or long > last[key][0]:
            last[key] = long, (at, cell)
    return [pair for _, pair in last.values()]


def _series(axis: Axis, of: str, unit: Literal["tokens", "bits"], line: Sequence[tuple[float, _Cell]]) -> Series:
    points = tuple(
        LawPoint(
            at=at,
            mean=fmean(value for _, value in cell.values),
            model=cell.model,
            num_texts=len({text for text, _ in cell.values}),
            is_bound=cell.is_bound,
        )
        for at, cell in line
    )
    pairs = zip(line, points, strict=True)
    fitted = [(at, cell.values) for (at, cell), point in pairs if point.mean and not point.is_bound]
    law = None
    if len({at for at, _ in fitted}) >= FEWEST_POINTS:
        law = power_law([at for at, _ in fitted], [values for _, values in fitted], over_models=axis in SIZES)
    return Series(axis=axis, of=of, unit=unit, points=points, law=law)


def power_law(places: Sequence[float], values: Sequence[Sequence[tuple[str, float]]], *, over_models: bool) -> Law:
    """The law of the means at each place, by least squares of ln mean against ln place.

    Args:
        places: Positive places of the axis, at least three, two of them different.
        values: (text, capacity) of the searches at each place.
        over_models: Whether the interval draws places, which are models; else it draws texts, the same at all places.
    """
    log_P = np.log(np.asarray(places, dtype=float))
    means_P = np.array([fmean(value for _, value in each) for each in values])
    slope, intercept = (float(number) for number in np.polyfit(log_P, np.log(means_P), 1))
    residuals_P = np.log(means_P) - (slope * log_P + intercept)
    misfit = float(np.exp(np.sqrt((residuals_P**2).sum() / (len(places) - 2))))
    if over_models:
        slopes = _slopes(log_P, np.log(means_P)[None], draws_of(len(places)))
    else:
        slopes = _slopes(log_P, _log_means_of_draws(values), np.ones((1, len(places))))
    interval = None
    if len(slopes) >= 2:
        low, high = np.quantile(slopes, [0.025, 0.975])
        interval = float(low), float(high)
    law = Law(exponent=slope, interval=interval, resampled="models", scale=float(np.exp(intercept)), misfit=misfit)
    return law if over_models else replace(law, resampled="texts")


def _log_means_of_draws(values: Sequence[Sequence[tuple[str, float]]]) -> np.ndarray:
    """Ln of the mean at each place in each resample of texts, (R, P); resamples that miss a place are left out."""
    texts = sorted({text for each in values for text, _ in each})
    if len(texts) < 2:
        return np.empty((0, len(values)))
    number = {text: place for place, text in enumerate(texts)}
    sums_CP, counts_CP = np.zeros((len(texts), len(values))), np.zeros((len(texts), len(values)))
    for place, each in enumerate(values):
        for text, value in each:
            sums_CP[number[text], place] += value
            counts_CP[number[text], place] += 1
    drawn_RC = draws_of(len(texts))
    sums_RP, counts_RP = drawn_RC @ sums_CP, drawn_RC @ counts_CP
    whole_R = (sums_RP > 0).all(axis=1)
    return np.log(sums_RP[whole_R] / counts_RP[whole_R])


def _slopes(log_P: np.ndarray, values_RP: np.ndarray, weights_RP: np.ndarray) -> np.ndarray:
    """Slope of each weighted line; resamples of a single place have none and are left out."""
    total_R1 = weights_RP.sum(axis=1, keepdims=True)
    centred_RP = log_P - (weights_RP * log_P).sum(axis=1, keepdims=True) / total_R1
    spread_R = (weights_RP * centred_RP**2).sum(axis=1)
    slopes_R = (weights_RP * centred_RP * values_RP).sum(axis=1) / np.where(spread_R > 1e-12, spread_R, np.nan)
    return slopes_R[np.isfinite(slopes_R)]
