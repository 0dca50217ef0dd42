"""95 % intervals: bootstrap for means, Wilson for shares.

Knows nothing of tables, models or texts.
"""

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
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(members, weights=np.asarray(values, dtype=float))
    counts = np.bincount(members)
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


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
