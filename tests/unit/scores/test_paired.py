"""Differences of two runs: the value, the error, and how often chance is called a difference."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from easi_eval.backends import make_backend
from easi_eval.benchmarks import BENCHMARKS, LMMS_EVAL, VLMEVALKIT, Benchmark, by_key
from easi_eval.data.needs import HubSettings
from easi_eval.scores.paired import Difference, Questions, adjusted, average, difference
from easi_eval.scores.recompute import recompute
from genuine import genuine

MMSI = by_key("mmsi_bench").source(VLMEVALKIT)


@pytest.mark.parametrize("backend", [VLMEVALKIT, LMMS_EVAL])
@pytest.mark.parametrize("bench", BENCHMARKS, ids=lambda bench: bench.key)
def test_every_score_and_difference_is_that_of_the_rows(bench: Benchmark, backend: str) -> None:
    out = genuine(backend, bench)
    source = bench.source(backend, out.task)
    rows = make_backend(backend, HubSettings()).rows(bench, out)
    other = rows.assign(score=np.where(np.arange(len(rows)) % 3, rows["score"], 1 - rows["score"]))
    one, two = (recompute(bench, source, each) for each in (rows, other))
    pairs = Questions.of(rows.assign(first=rows["score"], second=other["score"]))
    for part in (None, *source.parts):
        wanted = [each.parts[part.name] if part else each.overall for each in (one, two)]
        found = difference(source, part, pairs)
        if found is None:
            assert wanted == [None, None]
        else:
            assert [found.first, found.second] == pytest.approx(wanted)


def flat(first: list[float], second: list[float], clusters: list[str]) -> Questions:
    made = pd.DataFrame(
        {
            "first": first,
            "second": second,
            "cluster": clusters,
            "question_type": "Pos-Cam-Cam",
            "options": 4,
            "variant": "",
        }
    )
    return Questions.of(made)


def test_the_error_is_the_clustered_one_of_the_paired_differences() -> None:
    """Miller 2024, equation 4, over d = 1, 0 | -1, 1 | 0, 1 with C / (C - 1)."""
    found = difference(
        MMSI, None, flat([0, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 1], ["a", "a", "b", "b", "c", "c"])
    )
    assert found is not None
    mean = 2 / 6
    sums = [1 - 2 * mean, 0 - 2 * mean, 1 - 2 * mean]
    error = math.sqrt(3 / 2 * sum(each**2 for each in sums)) / 6
    assert found.value == pytest.approx(100 * mean)
    assert found.error == pytest.approx(100 * error)
    assert (found.better, found.worse, found.freedom) == (3, 1, 2)
    assert found.low == pytest.approx(100 * (mean - 4.302652730 * error))  # t, 2 degrees
    assert found.detectable == pytest.approx(100 * (4.302652730 + 1.060660172) * error)


def test_questions_without_a_cluster_are_one_each() -> None:
    apart = difference(MMSI, None, flat([0, 0, 1, 1], [1, 0, 1, 0], [""] * 4))
    named = difference(MMSI, None, flat([0, 0, 1, 1], [1, 0, 1, 0], list("abcd")))
    assert apart == named and apart is not None and apart.freedom == 3


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 9, 0.021484375), (5, 5, 1.0), (0, 6, 0.03125)],
)
def test_mcnemar_is_exact(better: int, worse: int, p: float) -> None:
    count = better + worse + 4
    first = [0.0] * better + [1.0] * worse + [1.0] * 4
    second = [1.0] * better + [0.0] * worse + [1.0] * 4
    found = difference(MMSI, None, flat(first, second, [""] * count))
    assert found is not None and found.exact == pytest.approx(p)


def test_scores_between_right_and_wrong_have_no_mcnemar() -> None:
    found = difference(MMSI, None, flat([0.3, 1, 0], [0.4, 1, 1], [""] * 3))
    assert found is not None and found.exact is None and 0 < found.p <= 1


def test_one_scene_or_a_change_of_all_is_never_certain() -> None:
    one_scene = difference(MMSI, None, flat([0, 0, 0], [1, 1, 0], ["a"] * 3))
    all_up = difference(MMSI, None, flat([0, 0, 0], [1, 1, 1], list("abc")))
    assert one_scene is not None and one_scene.p == 0.5 and math.isinf(one_scene.high)
    assert all_up is not None and all_up.p == 0.25


def test_adjusting_is_benjamini_and_hochbergs() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([1, 0.2]) == pytest.approx([1, 0.4])
    assert adjusted([]) == []


def test_an_average_has_the_errors_of_all_its_parts() -> None:
    both = average([Difference(50, 52, 3, 10, 50, 5, 2), Difference(1, 5, 4, 10, 50, 6, 1)])
    assert (both.first, both.second, both.error, both.n) == (25.5, 28.5, 2.5, 100)
    assert both.freedom == pytest.approx(25**2 / (9**2 / 10 + 16**2 / 10))


# ---- chance alone


def drawn(random: np.random.Generator, size: int, each: int, kinds: list[str]) -> Questions:
    """Two runs of the same per-question probabilities; a scene is easy or hard as a whole."""
    scenes = np.repeat(np.arange(size // each), each)
    chance = np.clip(random.beta(2, 2, size // each)[scenes] + random.normal(0, 0.1, size), 0, 1)
    first, second = ((random.random(size) < chance).astype(float) for _ in range(2))
    return Questions(
        first,
        second,
        np.array(kinds, object)[np.arange(size) % len(kinds)],
        random.integers(2, 7, size).astype(float),
        scenes,
        np.full(size, "", object),
    )


@pytest.mark.parametrize(
    ("key", "each"),
    [("mmsi_bench", 1), ("mmsi_bench", 18), ("vsi_bench", 18), ("site_image", 1)],
)
def test_chance_is_seldom_called_a_difference(key: str, each: int) -> None:
    """Of 200 pairs of the same probabilities at most 7 % are told apart; 5 % are due."""
    source = by_key(key).source(VLMEVALKIT)
    kinds = sorted({kind for part in source.parts for kind in part.types}) or ["any"]
    random = np.random.default_rng(15)
    found = [difference(source, None, drawn(random, 720, each, kinds)) for _ in range(200)]
    assert sum(one is not None and one.p <= 0.05 for one in found) <= 14


def test_a_difference_that_is_called_detectable_is_found() -> None:
    """Four of five times, by its definition; here in at least 70 % of 200 pairs."""
    random = np.random.default_rng(15)
    found = []
    for _ in range(200):
        pairs = drawn(random, 720, 1, ["Pos-Cam-Cam"])
        better = random.random(len(pairs)) < 0.14  # of those that are wrong, about half
        second = np.where(better, 1.0, pairs.second)
        one = difference(MMSI, None, dataclasses.replace(pairs, second=second))
        assert one is not None
        found.append(one)
    detectable = float(np.mean([one.detectable for one in found]))
    assert float(np.mean([one.value for one in found])) == pytest.approx(detectable, rel=0.1)
    assert 140 <= sum(one.p <= 0.05 for one in found) <= 180
