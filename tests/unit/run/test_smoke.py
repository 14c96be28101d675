"""What a rehearsal runs."""

from __future__ import annotations

import pytest

from easi_eval.benchmarks import ALL_KEYS, REHEARSED_KEYS
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.run.smoke import left_out, rehearse


def test_a_benchmark_without_rehearsal_questions_is_left_out_and_named() -> None:
    asked = RunConfig(smoke=True, benchmarks=("blink", "embspatial"))
    assert rehearse(asked, 0, ("embspatial",)).benchmarks == ("embspatial",)
    assert left_out(asked, ("embspatial",)) == (
        "left out, the rehearsal has no questions for it: BLINK"
    )
    every = RunConfig(smoke=True, include_extra=True)
    assert rehearse(every, 0).selected == tuple(
        bench for bench in every.selected if bench.key in REHEARSED_KEYS
    )


def test_a_rehearsal_of_all_that_is_selected_changes_no_selection() -> None:
    asked = RunConfig(smoke=True)
    assert rehearse(asked, 0).benchmarks == () and left_out(asked) == ""
    assert rehearse(RunConfig(smoke=True, include_extra=True), 0, ALL_KEYS).include_extra


def test_a_rehearsal_of_nothing_is_refused() -> None:
    with pytest.raises(EasiError, match="no questions for it: BLINK"):
        rehearse(RunConfig(smoke=True, benchmarks=("blink",)), 0, ("embspatial",))
