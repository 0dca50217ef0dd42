"""95 % intervals over texts: bootstrap for means, Wilson for shares that are counts of texts.

Knows nothing of tables, models or texts.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import numpy as np

RESAMPLES = 4000
"""Bootstrap means drawn: with so many, the ends of an interval vary by about a hundredth of its width."""


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


def share_over_clusters(shares: Sequence[tuple[str, float]]) -> tuple[float, tuple[float, float] | None]:
    """Mean over clusters of each cluster's mean share, and its 95 % interval.

    Where every cluster is all or nothing, the share is a count of independent clusters: Wilson interval. Elsewhere
    whole clusters are drawn again.

    Args:
        shares: (cluster, share from 0 to 1), at least one: texts are independent, starts of one text are not.

    Returns:
        The share, and the ends of its interval; no interval for a single cluster that is neither all nor nothing.

    Source: Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    members: dict[str, list[float]] = defaultdict(list)
    for cluster, share in shares:
        members[cluster].append(share)
    means = [fmean(members[cluster]) for cluster in sorted(members)]
    mean_share = fmean(means)
    if any(mean not in (0.0, 1.0) for mean in means):
        return mean_share, bootstrap_mean(means, [str(number) for number in range(len(means))])
    # Takes half a second to import.
    from scipy.stats import binomtest

    ends = binomtest(round(sum(means)), len(means)).proportion_ci(method="wilson")
    return mean_share, (float(ends.low), float(ends.high))
