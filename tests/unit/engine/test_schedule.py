"""The order of service, and a whole run of it on a clock of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from easi_eval.engine.schedule import Pace, Schedule

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import itertools

from draws import KEYS, completed_by, draw, static_split
from simulate import simulate


def order(*pools: list[float]) -> Schedule:
    """Chunks of one question each, with these costs; the last pool is that of suspects."""
    costs = [cost for pool in pools for cost in pool]
    places = iter(range(len(costs)))
    return Schedule([[(next(places),) for _ in pool] for pool in pools], costs)


def test_nothing_measured_means_one_at_a_time_in_order() -> None:
    of = order([3.0, 1.0], [9.0, 9.0], [5.0])
    assert of.choose([0, 0, 0], None, 4) == 0
    assert of.choose([2, 1, 0], None, 4) == 1
    assert of.choose([2, 2, 0], None, 4) == 2
    assert of.choose([2, 2, 1], None, 4) is None


def test_a_long_question_of_a_later_benchmark_is_begun_in_time() -> None:
    of = order([1.0] * 400, [40.0, 1.0], [])
    assert of.choose([0, 0, 0], [1.0, 1.0], 1) == 0, "alone there is nobody to wait for"
    assert of.choose([0, 0, 0], [1.0, 1.0], 2) == 1, "40 s of the 220 s that are left for each"
    assert of.choose([0, 0, 0], [1.0, 0.1], 2) == 0, "4 s by the measured times"
    assert of.choose([0, 1, 0], [1.0, 1.0], 2) == 0


def test_suspects_are_served_alone_and_last() -> None:
    of = order([0.001] * 8, [50.0, 50.0])
    assert of.choose([7, 0], [1.0], 4) == 0
    assert of.choose([8, 0], [1.0], 4) == 1


def test_a_benchmark_with_few_answers_leans_on_the_others() -> None:
    pace = Pace(2)
    assert pace.scales() is None
    pace.add(0, 200.0, 100.0, 100)
    one, other = pace.scales()
    assert one == pytest.approx(2.0) and other == pytest.approx(2.0)
    pace.add(1, 6.0, 1.0, 1)
    assert 2.0 < pace.scales()[1] < 6.0
    pace.add(1, 6000.0, 1000.0, 1000)
    assert pace.scales()[1] == pytest.approx(6.0, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_ends_as_early_as_it_can(seed: int) -> None:
    """The dispatcher's own decisions with eight workers.

    The times are heavy-tailed, and the costs explain half of them.
    """
    drawn = draw(seed, count=900, sigma=1.0)
    schedule = simulate(drawn)
    assert (
        schedule.makespan / drawn.bound(8)
        < 1.05
        < static_split(drawn, 8, barriers=True) / drawn.bound(8)
    )
    assert completed_by(schedule.ends, drawn, 0.8 * schedule.makespan) >= 6


def test_nobody_waits_at_the_boundary_of_two_benchmarks() -> None:
    drawn = draw(1, count=450)
    schedule = simulate(drawn, workers=4)
    for worker in range(4):
        own = sorted(
            ((end, key) for key, end in schedule.ends.items() if schedule.workers[key] == worker)
        )
        gaps = [
            end - drawn.seconds[key] - before for (before, _), (end, key) in itertools.pairwise(own)
        ]
        assert max(gaps) < 1e-6, "each begins its next question when it has answered the last"
    firsts = [
        min(schedule.ends[item.key] - drawn.seconds[item.key] for item in drawn.items[key])
        for key in KEYS[:5]
    ]
    lasts = [max(schedule.ends[item.key] for item in drawn.items[key]) for key in KEYS[:5]]
    assert all(second < last for second, last in zip(firsts[1:], lasts, strict=False)), (
        "the next one begins before the last answer"
    )


def test_batches_stay_whole() -> None:
    drawn = draw(2, count=300)
    schedule = simulate(drawn, workers=4, chunk=8)
    sizes = {}
    for key, end in schedule.ends.items():
        sizes.setdefault((schedule.workers[key], end, key[0]), []).append(key)
    small = [members for members in sizes.values() if len(members) < 8]
    assert len(small) <= len(KEYS), "one remainder for each benchmark"
    assert max(map(len, sizes.values())) == 8
