"""Whether two runs differ, from their scores of the same questions.

The difference of two scores is taken question by question, because hard questions are hard for both
runs: the error of a paired difference is much smaller than that of two separate scores (Miller
2024, "Adding Error Bars to Evals", https://arxiv.org/abs/2411.00640, section 4). Questions about
one scene count as one cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..benchmarks import Part, Source
from .formulas import headline_ratios, part_ratios
from .interval import SCALE
from .row_table import SETS
from .statistics import Codes, Floats, cluster_codes, cluster_sums

if TYPE_CHECKING:
    import pandas as pd

Texts = NDArray[Any]  # of Python objects

LEVEL = 0.05  # two-sided
POWER = 0.8  # with which a difference of ``detectable`` is found


@dataclass(frozen=True)
class Questions:
    """The questions that two runs both answered, one element of each array per question.

    Attributes:
        first: Score of the first run, 0-1.
        second: Score of the second run.
        kinds: Question type.
        options: Number of options; NaN where it is unknown.
        clusters: Number of the scene.
        variants: The form of the question, as in a per-question table.
    """

    first: Floats
    second: Floats
    kinds: Texts
    options: Floats
    clusters: Codes
    variants: Texts

    @classmethod
    def of(cls, pairs: pd.DataFrame) -> Questions:
        """Read a table with ``first``, ``second`` and columns as in a per-question table."""
        return cls(
            pairs["first"].to_numpy(np.float64),
            pairs["second"].to_numpy(np.float64),
            pairs["question_type"].to_numpy(object),
            np.asarray(pairs["options"].astype("Float64").fillna(np.nan), np.float64),
            cluster_codes(pairs["cluster"].tolist()),
            pairs["variant"].to_numpy(object),
        )

    def __len__(self) -> int:
        return len(self.first)

    def only(self, kinds: Iterable[str]) -> Questions:
        """Return the questions of these types."""
        picked = np.isin(self.kinds, list(kinds))
        return Questions(*(getattr(self, one.name)[picked] for one in fields(self)))

    def sets(self, name_of: Callable[[str], str]) -> Questions:
        """Return sets of questions, each right if all of its members are.

        A set has the type of the member that it is named after.
        """
        names, places, codes = np.unique(
            np.array([name_of(variant) for variant in self.variants], object),
            return_index=True,
            return_inverse=True,
        )
        kinds = dict(zip(self.variants, self.kinds, strict=True))
        first, second = np.ones(len(names)), np.ones(len(names))
        np.multiply.at(first, codes, self.first)
        np.multiply.at(second, codes, self.second)
        return Questions(
            first,
            second,
            np.array([kinds.get(name, "") for name in names], object),
            self.options[places],
            self.clusters[places],
            names,
        )


@dataclass(frozen=True)
class Difference:
    """Two scores of the same questions, 0-100, and what is known of their difference.

    Attributes:
        first: Score of the first run.
        second: Score of the second run.
        error: Clustered standard error of the difference; NaN if there is only one cluster.
        freedom: Degrees of freedom of Student's t.
        n: Number of questions, or of sets of questions.
        better: Number of questions with a higher score in the second run.
        worse: Number with a lower one.
        exact: p-value of McNemar's exact test; None if scores are not right or wrong.
    """

    first: float
    second: float
    error: float
    freedom: float
    n: int
    better: int
    worse: int
    exact: float | None = None

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def changed(self) -> int:
        """Number of questions with another score."""
        return self.better + self.worse

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - self._times(1 - LEVEL / 2)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self._times(1 - LEVEL / 2)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The 95 % interval as it is shown: None if it is unknown or wider than all differences."""
        if not self.error > 0 or self.high - self.low > 2 * SCALE:
            return None
        # A score that is adjusted for chance may be below 0, and a difference above 100.
        most = max(SCALE, abs(self.value))
        return max(self.low, -most), min(self.high, most)

    @property
    def detectable(self) -> float:
        """The smallest true difference that is found with a probability of ``POWER``."""
        return self._times(1 - LEVEL / 2) + self._times(POWER)

    @property
    def p(self) -> float:
        """The p-value, two-sided.

        It is the larger one of two: that of the clustered error, which is an approximation, and
        McNemar's, which is exact and does not know of clusters.
        """
        if not self.changed:
            return 1.0
        exact = _sign_test(self.better, self.worse) if self.exact is None else self.exact
        if not self.error > 0:  # all changed alike, or there is one cluster
            return exact
        clustered = 2 * self.beyond(0.0)
        return clustered if self.exact is None else max(clustered, self.exact)

    def beyond(self, bound: float) -> float:
        """Return the one-sided p-value of a true difference on the other side of ``bound``."""
        from scipy.special import stdtr

        if not self.error > 0:
            return float(self.value == bound or math.isnan(self.error))
        return float(stdtr(self.freedom, -abs(self.value - bound) / self.error))

    def _times(self, quantile: float) -> float:
        from scipy.special import stdtrit

        if math.isnan(self.error):
            return math.inf
        return float(stdtrit(self.freedom, quantile)) * self.error if self.error else 0.0


def difference(source: Source, part: Part | None, asked: Questions) -> Difference | None:
    """Return the scores of two runs in a benchmark or a part, and their difference.

    The error is that of a ratio of sums over clusters (linearisation), each question with the
    weight that it has in the score.

    Args:
        source: How the score follows from the questions.
        part: The part; None for the headline.
        asked: The questions in both.

    Returns:
        None if the score cannot be computed from these questions.
    """
    picked, shares = _picked(source, part, asked)
    if not shares:
        return None
    share = np.array(list(shares.values()))
    place = {kind: number for number, kind in enumerate(shares)}
    units = (
        np.array([place[kind] for kind in picked.kinds], np.intp)
        if len(place) > 1
        else np.zeros(len(picked), np.intp)
    )
    # 1, or 1 - 1/n where a score is adjusted for chance
    weight = 1 - 1 / picked.options if source.recompute == "caa" else np.ones(len(picked))
    totals = np.bincount(units, weight)
    if not totals.all() or not np.isfinite([totals.sum(), *picked.first, *picked.second]).all():
        return None  # no options to choose between, or numbers that no backend writes
    first, second = (
        float(share @ (np.bincount(units, scores - (1 - weight)) / totals))
        for scores in (picked.first, picked.second)
    )
    change = picked.second - picked.first
    means = np.bincount(units, change) / totals
    middle = np.where(_clusters_of(units, picked.clusters) > 1, means, second - first)
    residuals = share[units] / totals[units] * (change - middle[units] * weight)
    error, freedom = _clustered(residuals, units, picked.clusters)
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    whole = bool(np.isin([picked.first, picked.second], (0.0, 1.0)).all())
    return Difference(
        100 * first,
        100 * second,
        100 * error,
        freedom,
        len(picked),
        better,
        worse,
        _sign_test(better, worse) if whole else None,
    )


def _clustered(residuals: Floats, units: Codes, codes: Codes) -> tuple[float, float]:
    """Return the standard error of a sum of residuals, and its degrees of freedom.

    Clusters of a unit count C / (C - 1) times, for the mean that was taken from them; a unit of one
    cluster has no mean of its own.
    """
    counts = _clusters_of(units, codes)
    grown = residuals * np.sqrt(counts / np.maximum(counts - 1, 1))[units]
    sums = cluster_sums(grown, codes)
    if len(sums) < 2:
        return math.nan, 0
    return math.sqrt(float(sums @ sums)), max(1, len(sums) - len(counts))


def _clusters_of(units: Codes, codes: Codes) -> Codes:
    """Return the number of clusters of each unit."""
    found = np.unique(np.stack([units, codes]), axis=1)[0]
    return np.bincount(found)


def average(differences: Sequence[Difference]) -> Difference:
    """Return the difference of the mean of several scores, whose questions are independent.

    The degrees of freedom are those of Welch and Satterthwaite.
    """
    squares = np.array([one.error for one in differences]) ** 2
    freedom = np.array([one.freedom for one in differences])
    below = float((squares**2 / np.maximum(freedom, 1)).sum())
    return Difference(
        float(np.mean([one.first for one in differences])),
        float(np.mean([one.second for one in differences])),
        math.sqrt(float(squares.sum())) / len(differences),
        float(squares.sum()) ** 2 / below if below else float(freedom.sum()),
        sum(one.n for one in differences),
        sum(one.better for one in differences),
        sum(one.worse for one in differences),
    )


def adjusted(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return (
        [float(value) for value in false_discovery_control(list(map(float, values)))]
        if values
        else []
    )


def _sign_test(better: int, worse: int) -> float:
    """Return the p-value of McNemar's exact test: changes are as likely in both directions."""
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


# ---- which questions make a score, with what weight


def _picked(
    source: Source, part: Part | None, asked: Questions
) -> tuple[Questions, dict[str, float]]:
    """Return the questions of a score, and the share that the mean of each type has in it.

    One mean over all questions has the one share "". There are no shares if the score cannot be
    computed from these questions.
    """
    if part is not None and part.group:
        asked = asked.sets(SETS[part.group])
    there = sorted(set(asked.kinds))
    ratios = part_ratios(source, part, there) if part else headline_ratios(source, there)
    picked = asked.only(kind for _, kinds in ratios for kind in kinds)
    if not len(picked):
        return picked, {}
    if (part and part.group) or source.recompute in ("mean", "caa"):
        return picked, {"": 1.0}
    whole = sum(share for share, _ in ratios)
    return picked, {kind: share / whole for share, (kind,) in ratios}
