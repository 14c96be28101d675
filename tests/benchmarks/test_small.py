"""The benchmarks in small: that they run and hold what does not depend on the machine. Nothing here measures time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import overhead  # noqa: E402
import repeated_work  # noqa: E402
import stragglers  # noqa: E402


def test_stragglers_on_a_clock_of_their_own() -> None:
    known, unknown = (stragglers.measure(1.5, known, draws=5, count=900, workers=8) for known in (0.5, 0.0))
    assert known.ours <= 1.05 and known.complete >= 6
    assert known.ours <= unknown.ours * 1.02 and unknown.ours < unknown.static < unknown.static_barriers
    assert stragglers.table([known, unknown]).count("\n") == 3


@pytest.mark.slow
def test_overhead_with_threads_over_a_real_store() -> None:
    measured = overhead.measure(600, 8, processes=2)
    assert measured.answers == 600, "every question once"
    assert 0 < measured.seconds < measured.whole
    assert overhead.table([measured]).count("\n") == 3


@pytest.mark.slow
@pytest.mark.faults
def test_kills_repeat_only_what_was_in_hand() -> None:
    disturbed = repeated_work.measure(kills=4, workers=2, seconds=0.05, count=40, seed=1)
    quiet = repeated_work.measure(kills=0, workers=2, seconds=0.0, count=40)
    assert disturbed.distinct == quiet.distinct == 120 and sum(disturbed.kills.values()) == 4
    assert disturbed.generated - disturbed.distinct <= disturbed.allowed
    assert disturbed.journaled_twice == quiet.journaled_twice == 0
    assert disturbed.score == quiet.score
    assert quiet.generated == 120
