"""The forecast of the archive's size against what full-size archives were measured to be."""

from __future__ import annotations

import pytest

from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, LMMS_EVAL, VLMEVALKIT
from easi_eval.submission.archive.size_forecast import forecast, longest_answers, questions
from easi_eval.submission.endpoint import LIMIT
from full_size import ROWS


def test_it_knows_every_benchmark_by_the_size_that_was_measured() -> None:
    for backend in (VLMEVALKIT, LMMS_EVAL):
        assert {key: questions(key, backend) for key in ALL_KEYS} == ROWS


# Bytes of the smallest form with answers of 60 characters, OmniSpatial's of 800, as measured by
# tests/benchmarks/archive_size.py.
@pytest.mark.parametrize("backend, measured", [(VLMEVALKIT, 2_794_453), (LMMS_EVAL, 2_577_821)])
def test_it_gives_what_was_measured(backend: str, measured: int) -> None:
    assert longest_answers(backend, ALL_KEYS, measured) == pytest.approx(60, abs=2)
    assert 140 <= longest_answers(backend, ALL_KEYS, LIMIT) <= 160
    assert longest_answers(backend, CORE_KEYS, LIMIT) > longest_answers(backend, ALL_KEYS, LIMIT)


def test_the_line() -> None:
    assert "up to about 140 characters on average (OmniSpatial's of 800)" in forecast(
        VLMEVALKIT, ALL_KEYS, LIMIT
    )
    assert "OmniSpatial" not in forecast(VLMEVALKIT, CORE_KEYS, LIMIT)
    assert (
        forecast(VLMEVALKIT, ["omnispatial_(manual_cot)"], LIMIT) == ""
        and forecast(VLMEVALKIT, ALL_KEYS, 1000) == ""
    )
