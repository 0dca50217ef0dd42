"""95 % intervals over texts: bootstrap for means, Wilson for shares that are counts of texts.

Knows nothing of tables, models or texts.
"""

# Axes: R resamples, C clusters, N observations, P columns.

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
