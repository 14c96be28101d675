"""The forecast of the archive's size against what full-size archives were measured to be."""

from __future__ import annotations

import pytest

from easi_eval.benchmarks import ALL_KEYS, BACKENDS, CORE_KEYS, LMMS_EVAL, VLMEVALKIT
from easi_eval.submission.archive.size_forecast import forecast, longest_answers, questions
from easi_eval.submission.endpoint import LIMIT
from genuine import facts

MEASURED = tuple(key for key in ALL_KEYS if facts(key)["archive_measured"])


def test_it_knows_the_size_of_every_benchmark() -> None:
    for backend in BACKENDS:
        assert all(questions(key, backend) > 0 for key in ALL_KEYS)


# Bytes of the smallest form with answers of 60 characters, OmniSpatial's of 800, as measured by
# tests/benchmarks/archive_size.py.
@pytest.mark.parametrize("backend, measured", [(VLMEVALKIT, 2_312_453), (LMMS_EVAL, 2_296_603)])
def test_it_gives_what_was_measured(backend: str, measured: int) -> None:
    assert longest_answers(backend, MEASURED, measured) == pytest.approx(60, abs=2)
    assert 165 <= longest_answers(backend, MEASURED, LIMIT) <= 185
    assert longest_answers(backend, CORE_KEYS, LIMIT) > longest_answers(backend, MEASURED, LIMIT)


def test_the_line() -> None:
    assert "average at most 170 characters (OmniSpatial: 800)" in forecast(
        VLMEVALKIT, MEASURED, LIMIT
    )
    assert "OmniSpatial" not in forecast(VLMEVALKIT, CORE_KEYS, LIMIT)
    assert (
        forecast(VLMEVALKIT, ["omnispatial_(manual_cot)"], LIMIT) == ""
        and forecast(VLMEVALKIT, MEASURED, 1000) == ""
    )
