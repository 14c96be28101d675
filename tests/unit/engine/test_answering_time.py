"""How long a benchmark was answered, from the journal alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from easi_eval.engine.journal import Answer, Header, Phase, Record, encode
from easi_eval.engine.journal_state import JournalState

EPOCHS = {"a": 0, "b": 0}


def write(folder: Path, worker: str, launch: int, *records: Record) -> None:
    header = Header(worker, 0, launch, "host", 1, 0.0)
    folder.mkdir(exist_ok=True)
    (folder / f"{worker}.{launch}.jsonl").write_bytes(b"".join(map(encode, (header, *records))))


def answered(benchmark: str, item: str, launch: int, at: float, epoch: int = 0) -> Answer:
    return Answer(benchmark, item, epoch, "A", 9.0, launch=launch, at=at)


def times(folder: Path, launch: int | None = None) -> tuple[float | None, float | None]:
    state = JournalState(folder, EPOCHS, launch)
    state.poll()
    return state.answering_time("a"), state.answering_time("b")


def test_the_times_of_all_benchmarks_add_up_to_that_of_answering(tmp_path: Path) -> None:
    write(
        tmp_path,
        "w0",
        1,
        Phase("w0", 0, "loading the model", 50.0),
        Phase("w0", 0, "answering", 100.0),
        answered("a", "0", 1, 110.0),
        answered("a", "1", 1, 130.0),
        answered("b", "0", 1, 133.0),
    )
    write(
        tmp_path,
        "w1",
        1,
        Phase("w1", 0, "answering", 104.0),
        answered("a", "2", 1, 115.0),
        answered("b", "1", 1, 140.0),
    )
    assert times(tmp_path) == (30.0, 10.0)


def test_time_of_benchmarks_that_are_left_out_counts_for_none_of_the_others(tmp_path: Path) -> None:
    """A resumed run has no work for a benchmark that was complete; its answers took time too."""
    write(
        tmp_path,
        "w0",
        1,
        Phase("w0", 0, "answering", 100.0),
        answered("complete", "0", 1, 190.0),
        answered("a", "0", 1, 195.0),
    )
    assert times(tmp_path) == (5.0, 0.0)


def test_the_time_between_launches_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "w0", 1, Phase("w0", 0, "answering", 100.0), answered("a", "0", 1, 110.0))
    first = times(tmp_path)
    assert first == (10.0, 0.0)
    write(
        tmp_path,
        "w0",
        2,
        Phase("w0", 0, "answering", 5000.0),
        answered("a", "1", 2, 5002.5),
        answered("b", "0", 2, 5003.0),
    )
    assert times(tmp_path) == times(tmp_path, launch=3) == (12.5, 0.5)


def test_answers_of_another_epoch_do_not_count(tmp_path: Path) -> None:
    write(
        tmp_path,
        "w0",
        1,
        Phase("w0", 0, "answering", 100.0),
        answered("a", "0", 1, 110.0, epoch=3),
        answered("b", "0", 1, 112.0),
    )
    assert times(tmp_path) == (0.0, 12.0)


@pytest.mark.parametrize("at", [0.0, 120.0])
def test_what_an_earlier_version_did_not_record_is_unknown(tmp_path: Path, at: float) -> None:
    write(
        tmp_path,
        "w0",
        1,
        *([Phase("w0", 0, "answering", 100.0)] if not at else []),
        answered("a", "0", 1, at),
    )
    assert times(tmp_path)[0] is None
