"""95 % intervals: bootstrap for means, Wilson for shares.

Knows nothing of tables, models or texts.
"""

# Axes: R resamples, C clusters, N observations, P columns.

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

RESAMPLES = 4000
"""Bootstrap means drawn: with so many, the ends of an interval vary by about a hundredth of its width."""
QUANTILE = NormalDist().inv_cdf(0.975)
"""Standard deviations from the middle to the ends of a 95 % interval."""


def bootstrap_mean(values: Sequence[float], clusters: Sequence[str], *, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile interval of the mean, drawing whole clusters with replacement.

    Args:
        values: One number per observation.
        clusters: The cluster of each observation: texts are independent, seeds of one text are not.
        seed: Equal seeds give equal intervals.

    Returns:
        Lower and upper end; None with fewer than two clusters.
    """
    return bootstrap_means(np.asarray(values, dtype=float)[:, None], clusters, seed=seed)[0]


def bootstrap_means(
    values_NP: np.ndarray, clusters: Sequence[str], *, seed: int = 0
) -> list[tuple[float, float] | None]:
    """`bootstrap_mean` of each of P columns of N observations, with the same draws of clusters for all columns."""
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return [None] * values_NP.shape[1]
    sums_CP = np.zeros((len(names), values_NP.shape[1]))
    np.add.at(sums_CP, members, values_NP)
    drawn_RC = draws_of(len(names), seed=seed)
    means_RP = drawn_RC @ sums_CP / (drawn_RC @ np.bincount(members))[:, None]
    low_P, high_P = np.quantile(means_RP, [0.025, 0.975], axis=0)
    return [(float(low), float(high)) for low, high in zip(low_P, high_P, strict=True)]


def draws_of(num_clusters: int, *, seed: int = 0) -> np.ndarray:
    """How often each cluster is drawn, (RESAMPLES, num_clusters); equal seeds give equal draws."""
    draws_RC = np.random.default_rng(seed).integers(num_clusters, size=(RESAMPLES, num_clusters))
    draws_RC += num_clusters * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(draws_RC.ravel(), minlength=RESAMPLES * num_clusters)
    return counts.reshape(RESAMPLES, num_clusters).astype(float)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a probability, from the `share` of successes seen in `n` trials.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if n == 0:
        return 0.0, 1.0
    squared = QUANTILE * QUANTILE
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    half = QUANTILE / (1 + squared / n) * sqrt(share * (1 - share) / n + squared / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
