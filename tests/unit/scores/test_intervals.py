"""Intervals of every score, from genuine rows of both backends."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest

from easi_eval.backends import make_backend
from easi_eval.benchmarks import BACKENDS, BENCHMARKS, CORE_KEYS, LMMS_EVAL, VLMEVALKIT, by_key
from easi_eval.data.needs import HubSettings
from easi_eval.scores.interval import Interval, pack, unpack
from easi_eval.scores.intervals import benchmark_intervals, with_intervals
from easi_eval.scores.recompute import recompute
from easi_eval.scores.row_table import frame
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import BenchmarkScore, ScoreTable, State
from genuine import genuine


def scored(backend: str, key: str) -> BenchmarkScore:
    bench, reader = by_key(key), make_backend(backend, HubSettings())
    out = genuine(backend, bench)
    rows, source = reader.rows(bench, out), bench.source(backend, out.task)
    score = summarise(
        bench, recompute(bench, source, rows), rows, total=len(rows), state=State.COMPLETE
    )
    return with_intervals(score, bench, source, rows)


ALL = {
    (backend, bench.key): scored(backend, bench.key) for backend in BACKENDS for bench in BENCHMARKS
}


@pytest.mark.parametrize(("backend", "key"), ALL)
def test_every_score_has_an_interval_around_it(backend: str, key: str) -> None:
    score = ALL[backend, key]
    values = {"": score.reading.overall, **score.reading.parts}
    assert {name for name, value in values.items() if value is not None} == set(score.intervals)
    bench, reader = by_key(key), make_backend(backend, HubSettings())
    out = genuine(backend, bench)
    made = benchmark_intervals(bench, bench.source(backend, out.task), reader.rows(bench, out))
    for name, interval in score.intervals.items():
        assert interval.value == values[name]
        assert made[name].value == pytest.approx(interval.value, abs=1e-9), "from the rows alone"
        assert interval.low <= interval.value <= interval.high
        assert 0 < interval.clusters <= interval.n <= score.n
    assert score.intervals[""].n == score.n


def test_both_backends_see_the_same_clusters_where_their_files_name_them() -> None:
    numbers = {
        key: tuple(ALL[backend, key].intervals[""].clusters for backend in BACKENDS)
        for key in by_clusters()
    }
    assert {key for key, (one, other) in numbers.items() if one != other} <= {"site_video"}
    assert numbers["vsi_bench"] == (6, 6) and numbers["3dsrbench"] == (12, 12)


def by_clusters() -> list[str]:
    return [bench.key for bench in BENCHMARKS if bench.source(VLMEVALKIT).rows.cluster]


def test_chance_follows_from_the_options() -> None:
    vsi = ALL[VLMEVALKIT, "vsi_bench"].intervals
    assert vsi["object_rel_direction_accuracy"].chance == pytest.approx((50 + 100 / 3 + 25) / 3)
    assert vsi["object_counting"].chance is None, "a number has no options"
    assert vsi[""].chance == pytest.approx((25 + 325 / 9 + 28.3 + 25) / 8, abs=1e-4)
    assert all(i.chance == 0 for i in ALL[LMMS_EVAL, "site_image"].intervals.values())
    blink = ALL[LMMS_EVAL, "blink"].intervals[""].chance
    assert blink == pytest.approx(38.09, abs=0.01), "the paper's random choice"
    sets = ALL[VLMEVALKIT, "3dsrbench"].intervals
    assert sets["circ_eval_height_higher"].chance == 25, "both rotations of two options"


def test_every_type_with_options_has_a_chance_on_both_backends() -> None:
    for backend, key in ALL:
        score = ALL[backend, key]
        other = ALL[BACKENDS[BACKENDS.index(backend) - 1], key]
        for name in score.intervals.keys() & other.intervals.keys():
            ours, theirs = score.intervals[name].chance, other.intervals[name].chance
            assert (ours is None) == (theirs is None), (key, name)


def test_a_set_is_one_of_its_cluster_and_a_guess_has_to_be_right_in_each() -> None:
    score = ALL[VLMEVALKIT, "3dsrbench"].intervals["circ_eval_overall"]
    assert score.n < 56 and score.clusters == 12 and score.method.startswith("bootstrap")


def rows_of(key: str, scores: list[float], clusters: list[str]) -> object:
    return frame(
        {
            "benchmark": key,
            "item": str(place),
            "question_type": "one",
            "answer": "A",
            "extracted": "A",
            "target": "A",
            "score": value,
            "parsed": True,
            "cluster": cluster,
            "options": None,
            "coin_flip": False,
        }
        for place, (value, cluster) in enumerate(zip(scores, clusters, strict=True))
    )


def headline(scores: list[float], clusters: list[str]) -> Interval:
    bench = by_key("mmsi_bench")
    rows = rows_of(bench.key, scores, clusters)
    return benchmark_intervals(bench, bench.source(VLMEVALKIT), rows)[""]  # type: ignore[arg-type]


def test_answers_that_go_together_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    whole = np.repeat(random.integers(0, 2, 60), 10).astype(float).tolist()
    scenes = [str(place // 10) for place in range(600)]
    apart, together = headline(whole, [""] * 600), headline(whole, scenes)
    assert apart.clusters == 600 and together.clusters == 60
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(10**0.5, rel=0.05)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_scores_that_are_all_alike_do_not_look_certain(right: float) -> None:
    made = headline([right] * 40, [""] * 40)
    assert made.high - made.low == pytest.approx(9.3, abs=0.5)
    one = headline([right] * 40, ["the same"] * 40)
    assert (one.low, one.high) == (0, 100), "one scene says nothing of others"
    half = headline([right / 2] * 40, [""] * 40)
    assert half.high - half.low > 9


def test_at_chance() -> None:
    random = np.random.default_rng(1)
    guessed = (random.random(1000) < 0.25).astype(float).tolist()
    assert headline(guessed, [""] * 1000).at_chance
    better = headline([1.0] * 400 + [0.0] * 600, [""] * 1000)
    assert better.chance == 25 and not better.at_chance
    assert not replace(better, chance=None).at_chance


@pytest.mark.parametrize("backend", BACKENDS)
def test_site_and_the_average_are_drawn_over_all_their_questions(backend: str) -> None:
    table = ScoreTable(
        tuple(row for (name, _), row in ALL.items() if name == backend), "org/m", backend
    )
    site = next(row for row in table.headlines if row.key == "site")
    halves = [ALL[backend, key].intervals[""] for key in ("site_image", "site_video")]
    assert set(site.intervals) == {"", *site.reading.parts}
    whole = site.intervals[""]
    assert whole.value == site.reading.overall
    assert whole.n == sum(half.n for half in halves) == 42 and whole.chance == 0
    assert whole.error < max(half.error for half in halves)
    average = table.average_interval
    assert average is not None and average.value == table.easi8_average
    assert average.n == sum(ALL[backend, key].n for key in CORE_KEYS)
    eight = [table.headlines[place].intervals[""] for place in range(8)]
    apart = sum(one.error**2 for one in eight) ** 0.5 / 8
    assert average.error == pytest.approx(apart, rel=0.35)
    assert average.low < average.value < average.high
    assert average.at_chance == (average.low <= (average.chance or 0) <= average.high)


def test_without_the_rows_of_a_half_site_has_no_interval() -> None:
    rows = [ALL[VLMEVALKIT, key] for key in CORE_KEYS]
    bare = [
        replace(row, intervals={}, draws={}) if row.key == "site_image" else row for row in rows
    ]
    table = ScoreTable(tuple(bare), "org/m", VLMEVALKIT)
    assert table.easi8_average is not None and table.average_interval is None
    assert not next(row for row in table.headlines if row.key == "site").intervals


def test_draws_are_kept_as_short_text() -> None:
    drawn = [place / 7 for place in range(2000)]
    assert unpack(pack(drawn)) == pytest.approx(drawn, rel=1e-6) and len(pack(drawn)) < 11_000


def test_the_same_rows_give_the_same_intervals() -> None:
    for (backend, key), score in itertools.islice(ALL.items(), 4):
        again = scored(backend, key)
        assert asdict(again) == asdict(score)
