"""Questions that lack memory: how the workers of all machines are halved."""

from __future__ import annotations

import pytest

from easi_eval.benchmarks import by_key
from easi_eval.run.relaunch import Launches, Standing

LACKING = Standing([by_key("blink")], 5, lacked_memory=True)


@pytest.mark.parametrize(
    ("launches", "stages"),
    [
        (Launches(4), [(4, False), (2, False), (1, True)]),
        (Launches(1), [(1, True)]),
        # Another machine may have more than this one: one stage more, for all that have one worker.
        (Launches(4, shared=True), [(4, False), (2, False), (1, True)]),
        (Launches(1, shared=True), [(1, False), (1, True)]),
    ],
)
def test_workers_are_halved_down_to_one(launches: Launches, stages: list[object]) -> None:
    found = []
    while (launch := launches.next(LACKING if found else Standing(LACKING.left, 0))) is not None:
        assert launch.stage == len(found)
        found.append((launch.workers, launches.final))
        if launches.final:
            break
    assert found == stages


def test_a_machine_that_joined_with_more_workers_decides() -> None:
    launches, stages = Launches(1, shared=True), []
    launches.next(Standing(LACKING.left, 0))
    while not launches.final:
        launches.workers = max(1, 8 >> launches.stage)  # as ``Workers`` does
        launch = launches.next(LACKING)
        assert launch is not None
        stages.append(launch.workers)
    assert stages == [4, 2, 1]
