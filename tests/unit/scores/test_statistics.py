"""Errors and intervals over clusters."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest, t

from easi_eval.scores.statistics import (
    Z,
    cluster_bootstrap,
    cluster_codes,
    cluster_error,
    cluster_sums,
    cluster_t,
    critical_value,
    design_effect,
    percentile_interval,
    share_interval,
    wilson_interval,
)

SCORES = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
CODES = np.array([0, 0, 1, 1, 2, 2, 2, 3])


def test_questions_without_a_scene_are_clusters_of_their_own() -> None:
    assert cluster_codes(["a", "", "b", "a", ""]).tolist() == [0, 1, 2, 0, 3]


def test_the_error_is_that_of_miller_with_the_factor_for_few_clusters() -> None:
    apart = SCORES - SCORES.mean()
    together = sum(
        apart[i] * apart[j]
        for i in range(len(SCORES))
        for j in range(len(SCORES))
        if CODES[i] == CODES[j]
    )
    assert cluster_error(SCORES, CODES) == pytest.approx(math.sqrt(4 / 3 * together) / 8)
    assert math.isnan(cluster_error(SCORES, np.zeros(8, dtype=int)))


def test_clusters_of_one_have_no_design_effect_and_equal_answers_count_as_one() -> None:
    assert design_effect(SCORES, np.arange(8)) == pytest.approx(1)
    whole = np.repeat([1.0, 0.0, 1.0, 0.0], 18)
    assert design_effect(whole, np.repeat(np.arange(4), 18)) == pytest.approx(18 * 71 / 72 * 4 / 3)
    assert design_effect(np.ones(36), np.repeat([0, 1], 18)) == 18


@pytest.mark.parametrize(("right", "count"), [(0, 20), (7, 20), (250, 1000), (1000, 1000)])
def test_wilson_is_that_of_scipy(right: int, count: int) -> None:
    wanted = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx((wanted.low, wanted.high))
    clusters = np.arange(count)
    if count >= 50:
        scores = (clusters < right).astype(float)
        found = share_interval(scores, clusters)[1:]
        assert found == pytest.approx((wanted.low, wanted.high), abs=1e-4), "t of many is normal"


def test_few_clusters_have_students_t_and_one_says_nothing() -> None:
    assert critical_value(12) == pytest.approx(t.ppf(0.975, 11))
    assert (
        critical_value(50) == pytest.approx(t.ppf(0.975, 49), abs=2e-3) and critical_value(50) > Z
    )
    assert cluster_t(12) == pytest.approx(t.ppf(0.975, 11) / Z * math.sqrt(12 / 11))
    assert cluster_t(5000) == pytest.approx(1, abs=1e-3)
    assert share_interval(SCORES, np.zeros(8, dtype=int))[1:] == (0.0, 1.0)


def test_the_bootstrap_draws_whole_clusters_and_is_seeded() -> None:
    random = np.random.default_rng(1)
    codes = np.repeat(np.arange(200), 5)
    scores = np.repeat(random.random(200), 5)
    rows = np.column_stack([scores, np.ones(1000)])
    assert cluster_sums(rows, codes[::-1].copy()).sum(axis=0) == pytest.approx(rows.sum(axis=0))

    def mean(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    drawn = cluster_bootstrap(rows, codes, mean, seed=3)
    assert drawn.shape == (2000,)
    assert drawn.std() == pytest.approx(cluster_error(scores, codes), rel=0.05)
    assert np.array_equal(drawn, cluster_bootstrap(rows, codes, mean, seed=3))
    assert not np.array_equal(drawn, cluster_bootstrap(rows, codes, mean, seed=4))
    low, high = percentile_interval(drawn)
    assert low < scores.mean() < high


def test_scipy_is_loaded_only_for_few_clusters() -> None:
    code = (
        "import sys, numpy; from easi_eval.scores.statistics import share_interval\n"
        "share_interval(numpy.arange(60) % 2.0, numpy.arange(60)); print('scipy' in sys.modules)\n"
        "share_interval(numpy.arange(9) % 2.0, numpy.arange(9)); print('scipy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "True"]
