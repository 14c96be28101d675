"""What a rehearsal runs, and what two of them in one output folder do to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.benchmarks import ALL_KEYS, REHEARSED_KEYS
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.run.smoke import left_out, rehearse
from easi_eval.run.smoke_hub import place


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


def test_of_two_trees_made_at_once_the_first_stays(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "made-by").write_text(name)
        place(tmp_path / name, root)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]
    assert (root / "made-by").read_text() == "first"


def test_a_tree_that_cannot_be_placed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "made", tmp_path / "nowhere" / "hub")
