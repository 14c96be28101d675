"""Each benchmark is scored once, from all its answers.

It is scored as soon as its last question has an outcome.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Assignment, ItemList, Work, tolerable

WORK = Work((Assignment("a", "A"), Assignment("b", "B", epoch=1)), launch=1)


def prepare(
    root: Path, *, failed: tuple[str, ...] = (), missing: tuple[str, ...] = (), keys: str = "ab"
) -> Journal:
    journal = Journal(root / "journal", "w0", 0, launch=1)
    for assignment in WORK.benchmarks:
        if assignment.key not in keys:
            continue
        ItemList(assignment.key, 5, ("4", "0", "2")).save(root)
        for item in ("0", "2", "4"):
            name = assignment.key + item
            if name not in missing:
                write(journal, assignment, item, "OSError: gone" if name in failed else None)
    return journal


def write(journal: Journal, assignment: Assignment, item: str, failure: str | None = None) -> None:
    text = None if failure else f"{assignment.key}{item}"
    journal.answer(
        Answer(
            assignment.key,
            item,
            assignment.epoch,
            text,
            0.1,
            failure=failure,
            worker="w0",
            launch=1,
        )
    )


def save(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
    assert list(folder.iterdir()) == []
    (folder / "result.json").write_text(json.dumps([answer.text for answer in answers.values()]))


def result(root: Path, key: str) -> list[str]:
    return json.loads((root / "outputs" / f".{key}.scored" / "result.json").read_text())


def note(root: Path, key: str) -> dict[str, object]:
    assert not (root / "outputs" / f".{key}.scored").exists()
    return json.loads((root / "outputs" / f".{key}.failed.json").read_text())


def error(root: Path, key: str) -> str:
    return str(note(root, key)["error"])


def test_scores_in_document_order(tmp_path: Path) -> None:
    prepare(tmp_path)
    score_loop(tmp_path, WORK, save)
    assert result(tmp_path, "a") == ["a4", "a0", "a2"]
    assert result(tmp_path, "b") == ["b4", "b0", "b2"]
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        ".a.scored",
        ".b.scored",
    ]


def test_scores_while_the_next_benchmark_is_answered(tmp_path: Path) -> None:
    journal = prepare(tmp_path, missing=("b2",))
    thread = threading.Thread(
        target=score_loop, args=(tmp_path, WORK, save), kwargs={"every": 0.01}
    )
    thread.start()
    while not (tmp_path / "outputs" / ".a.scored").exists():
        time.sleep(0.01)
    assert thread.is_alive()
    write(journal, WORK.benchmarks[1], "2")
    thread.join(20)
    assert result(tmp_path, "b") == ["b4", "b0", "b2"]


def test_waits_for_the_list_of_questions(tmp_path: Path) -> None:
    """A list that another --limit left behind is not taken for this run's."""
    prepare(tmp_path)
    ItemList("a", 5, ("4",), limit=1).save(tmp_path)
    thread = threading.Thread(
        target=score_loop, args=(tmp_path, WORK, save), kwargs={"every": 0.01}
    )
    thread.start()
    while not (tmp_path / "outputs" / ".b.scored").exists():
        time.sleep(0.01)
    assert not (tmp_path / "outputs" / ".a.scored").exists()
    ItemList("a", 5, ("4", "0", "2")).save(tmp_path)
    thread.join(20)
    assert result(tmp_path, "a") == ["a4", "a0", "a2"]


def test_started_by_hand_it_ends_when_the_workers_were_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes answering.done then. A worker that is alive may still answer."""
    monkeypatch.delenv("EASI_TAG", raising=False)
    journal = prepare(tmp_path, missing=("a0",), keys="a")
    note = tmp_path / "journal" / "w1.gaveup"
    note.write_text("exit code 3 after 1 start: no such model\n")
    program = f"""
import sys
from pathlib import Path
from easi_eval.engine import scorer
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.work import Assignment, Work
scorer.RESTARTED = 0.5
work = Work((Assignment("a", "A"), Assignment("b", "B", epoch=1)), launch=1)
assert not scorer.score_loop(Path({str(tmp_path)!r}), work, lambda *words: None, every=0.05)
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as scoring:
        with pytest.raises(subprocess.TimeoutExpired):
            scoring.wait(3)  # this process has an open journal, and lives
        journal.phase("done")
        assert scoring.wait(20) == 0
    assert (
        error(tmp_path, "a")
        == "1 of 3 questions not answered; exit code 3 after 1 start: no such model"
    )
    assert error(tmp_path, "b").endswith("exit code 3 after 1 start: no such model")


def test_says_what_is_missing_when_answering_is_over(tmp_path: Path) -> None:
    prepare(tmp_path, missing=("a0", "a2"), keys="a")
    RunPaths(tmp_path).answering_done.touch()
    score_loop(tmp_path, WORK, save)
    assert error(tmp_path, "a") == "2 of 3 questions not answered"
    assert error(tmp_path, "b").startswith("no question was asked")
    assert note(tmp_path, "a")["unanswered"] is note(tmp_path, "b")["unanswered"] is True


def test_too_many_failed_questions_are_no_score(tmp_path: Path) -> None:
    prepare(tmp_path, failed=("a2",))
    score_loop(tmp_path, WORK, save)
    assert error(tmp_path, "a") == "1 of 3 questions failed (first: 2): OSError: gone"
    assert note(tmp_path, "a")["unanswered"] is False
    assert result(tmp_path, "b") == ["b4", "b0", "b2"]


@pytest.mark.parametrize(
    "failed, total, complete",
    [
        (0, 1, True),
        (1, 199, False),
        (1, 200, True),
        (2, 399, False),
        (2, 400, True),
        (5, 1000, True),
        (6, 1000, False),
        (26, 5130, False),
        (25, 5130, True),
    ],
)
def test_half_a_percent_may_have_failed(failed: int, total: int, complete: bool) -> None:
    assert tolerable(failed, total) is complete


def test_few_failed_questions_are_given_to_the_scorer_as_failures(tmp_path: Path) -> None:
    work = Work((Assignment("a", "A"),), launch=1)
    ids = tuple(str(at) for at in range(200))
    ItemList("a", 200, ids).save(tmp_path)
    journal = Journal(tmp_path / "journal", "w0", 0, launch=1)
    for item in ids:
        write(journal, work.benchmarks[0], item, "OSError: gone" if item == "7" else None)
    given: dict[str, Answer] = {}
    score_loop(tmp_path, work, lambda assignment, answers, folder: given.update(answers))
    assert tuple(given) == ids
    assert {item: answer.failure for item, answer in given.items() if answer.failure} == {
        "7": "OSError: gone"
    }
    assert given["7"].text is None and (tmp_path / "outputs" / ".a.scored").is_dir()


def test_a_scorer_that_raises_concerns_its_benchmark_only(tmp_path: Path) -> None:
    prepare(tmp_path)

    def raises(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
        (folder / "half").touch()
        if assignment.key == "a":
            raise KeyError("no column\n'x'")
        save_beside = folder / "whole"
        save_beside.touch()

    score_loop(tmp_path, WORK, raises)
    assert error(tmp_path, "a").startswith("KeyError: ")
    assert "\n" not in error(tmp_path, "a")
    assert "raises" in str(note(tmp_path, "a")["traceback"])
    assert note(tmp_path, "a")["unanswered"] is False
    assert (tmp_path / "outputs" / ".b.scored" / "whole").exists()


def test_a_scorer_that_raises_without_a_text_is_told_with_its_place(tmp_path: Path) -> None:
    prepare(tmp_path)

    def raises(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
        raise AssertionError

    score_loop(tmp_path, WORK, raises)
    assert (
        error(tmp_path, "a")
        == f"AssertionError: no text, at test_scorer.py:{raises.__code__.co_firstlineno + 1} in "
        "raises"
    )


def test_results_of_an_earlier_call_do_not_stand(tmp_path: Path) -> None:
    prepare(tmp_path)
    score_loop(tmp_path, WORK, save)
    (tmp_path / "outputs" / ".a.scoring").mkdir()
    (tmp_path / "outputs" / ".a.scoring" / "left over").touch()

    def refuse(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
        raise ValueError("worse than before")

    score_loop(tmp_path, WORK, refuse, only=["a"])
    assert error(tmp_path, "a") == "ValueError: worse than before"
    assert result(tmp_path, "b") == ["b4", "b0", "b2"], "not asked for"
    score_loop(tmp_path, WORK, save, only=["a"])
    assert result(tmp_path, "a") == ["a4", "a0", "a2"]
    assert not (tmp_path / "outputs" / ".a.failed.json").exists()


def test_a_benchmark_that_kills_the_scorer_comes_last(tmp_path: Path) -> None:
    prepare(tmp_path)
    program = f"""
import os, signal
from pathlib import Path
from easi_eval.engine.scorer import score_loop
from easi_eval.engine.work import Assignment, Work

def score(assignment, answers, folder):
    if assignment.key == "a":
        os.kill(os.getpid(), signal.SIGKILL)

score_loop(Path({str(tmp_path)!r}), Work((Assignment("a", "A"), Assignment("b", "B", epoch=1)), launch=1), score)
"""  # noqa: E501 -- lines of a program in a string
    for scored in (False, True):
        assert (
            subprocess.run([sys.executable, "-c", program], check=False).returncode
            == -signal.SIGKILL
        )
        assert (tmp_path / "outputs" / ".b.scored").exists() is scored


def test_luck_does_not_depend_on_the_other_benchmarks(tmp_path: Path) -> None:
    prepare(tmp_path)
    drawn: dict[str, list[float]] = {"a": [], "b": []}

    def draw(assignment: Assignment, answers: Mapping[str, Answer], folder: Path) -> None:
        drawn[assignment.key].append(random.random())

    for order in (WORK.benchmarks, WORK.benchmarks[::-1]):
        score_loop(tmp_path, Work(order, launch=1), draw)
    assert drawn["a"][0] == drawn["a"][1] != drawn["b"][0] == drawn["b"][1]
