"""Errors and 95 % intervals of scores whose questions come in clusters.

Questions about one scene have answers that go together, so the clusters are what was sampled
(Miller 2024, "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640). Intervals of the
normal approximation are too narrow for few questions and near 0 and 100 %, so shares get Wilson's
interval and few clusters Student's t (Bowyer et al. 2025, "Don't Use the CLT in LLM Evals With
Fewer Than a Few Hundred Datapoints", https://arxiv.org/abs/2503.01747).

Only numpy arrays go in and come out. scipy takes half a second to load and is imported where it is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

Z = 1.959963984540054  # of the normal distribution, two-sided 95 %
FEW_CLUSTERS = 50  # with fewer, Student's t is far from the normal distribution
DRAWS = 2000
SEED = 20241101
_AT_ONCE = 250  # draws; bounds the memory of their weights


def cluster_codes(names: Sequence[str]) -> Codes:
    """Return the number of each question's cluster; a question without a name is one of its own."""
    known: dict[str | int, int] = {}
    codes = [known.setdefault(name or place, len(known)) for place, name in enumerate(names)]
    return np.array(codes, dtype=np.intp)


def count_clusters(clusters: Codes) -> int:
    """Return the number of different clusters."""
    return len(np.unique(clusters))


def cluster_error(scores: Floats, clusters: Codes) -> float:
    """Return the clustered standard error of a mean (Miller 2024, equation 4).

    It has the factor C / (C - 1) for C clusters, as there may be few; NaN for one cluster.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    residuals = np.bincount(codes, scores - scores.mean())
    count = len(residuals)
    if count < 2:
        return math.nan
    return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / len(scores)


def design_effect(scores: Floats, clusters: Codes) -> float:
    """Return how many times the variance of a mean is larger than without clusters (Kish 1965).

    It is at least 1, so that clusters never narrow an interval. Where all scores are equal, nothing
    is known about their correlation: the clusters then count as the sample.
    """
    apart = float(scores.var(ddof=1)) / len(scores) if len(scores) > 1 else 0.0
    if not apart:
        return len(scores) / count_clusters(clusters)
    error = cluster_error(scores, clusters)
    return 1.0 if math.isnan(error) else max(1.0, error**2 / apart)


def critical_value(clusters: int) -> float:
    """Return the factor of a standard error that gives a 95 % interval.

    It is the quantile of Student's t with ``clusters - 1`` degrees of freedom, infinite for one
    cluster. From FEW_CLUSTERS on its first-order expansion is exact to 0.002.
    """
    if clusters >= FEW_CLUSTERS:
        return Z + (Z**3 + Z) / (4 * (clusters - 1))
    if clusters < 2:
        return math.inf
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, 0.975))


def cluster_t(clusters: int) -> float:
    """Return the factor by which a bootstrap interval is widened; close to 1 for many clusters.

    A percentile interval of C clusters is too narrow by sqrt((C - 1) / C) and by the ratio of the
    normal quantile to that of Student's t (Hesterberg 2015, https://arxiv.org/abs/1411.5279).
    """
    return critical_value(clusters) / Z * math.sqrt(clusters / max(1, clusters - 1))


def wilson_interval(share: float, n: float, critical: float = Z) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, 0-1.

    ``n`` is the effective number of questions: their number divided by the design effect (Dean and
    Pagano 2015, https://doi.org/10.1093/jssam/smv024).
    """
    if math.isinf(critical):
        return 0.0, 1.0
    squared = critical**2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = critical / (1 + squared / n) * math.sqrt(share * (1 - share) / n + squared / (4 * n**2))
    low, high = middle - half, middle + half
    return (low if share > 0 else 0.0), (high if share < 1 else 1.0)  # without rounding errors


def share_interval(scores: Floats, clusters: Codes) -> tuple[float, float, float]:
    """Return standard error and 95 % interval of the mean of scores that are 0 or 1.

    Wilson's interval with the effective n and, for few clusters, with Student's t.
    """
    share, effective = float(scores.mean()), len(scores) / design_effect(scores, clusters)
    low, high = wilson_interval(share, effective, critical_value(count_clusters(clusters)))
    return math.sqrt(share * (1 - share) / effective), low, high


def cluster_sums(rows: Floats, clusters: Codes) -> Floats:
    """Return the sum of the rows of each cluster, one row per cluster."""
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def cluster_bootstrap(
    sum_rows: Floats,
    clusters: Codes,
    statistic: Callable[[Floats], Any],
    draws: int = DRAWS,
    seed: int = SEED,
) -> Floats:
    """Return a score of each of ``draws`` resamples of the clusters.

    Whole clusters are drawn with replacement (the nonparametric cluster bootstrap; Cameron, Gelbach
    and Miller 2008, https://doi.org/10.1162/rest.90.3.414). A score that follows from sums over
    questions needs only the sums of each cluster. Clusters with equal sums are drawn together, as
    how often they are drawn is multinomial either way.

    Args:
        sum_rows: What is summed, one row per question and one column per sum.
        clusters: The cluster of each row.
        statistic: Computes the scores from an array of sums, ``(draws, columns)``; the first
            axis of its result is that of the draws.
        draws: Number of resamples.
        seed: The same seed gives the same resamples.
    """
    sums = cluster_sums(sum_rows, clusters)
    different, times = np.unique(sums, axis=0, return_counts=True)
    random = np.random.default_rng(seed)
    made = []
    for start in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - start)
        weights = random.multinomial(len(sums), times / len(sums), size=size)
        made.append(statistic(weights.astype(np.float64) @ different))
    return np.concatenate(made)


def percentile_interval(drawn: Floats) -> tuple[float, float]:
    """Return the 95 % interval of bootstrap draws (the percentile method, not BCa)."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
