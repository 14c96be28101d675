"""What is prepared ahead changes nothing but the time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import Answer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.prefetch import Prefetcher
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop

WORK = Work((Assignment("a", "A"), Assignment("b", "B")))
ITEMS = {key: [Item(key, str(number)) for number in range(12)] for key in ("a", "b")}


def run(
    root: Path, make, *, ahead: bool, chunk: int = 1
) -> tuple[dict[tuple[str, str], str], Prefetcher]:
    """Answer all questions; each answer holds the prompt and a random number.

    With ``ahead``, or with prompts made when they are needed.
    """
    source = Prefetcher(make)

    def answer(items: Sequence[Item]) -> list[Generation]:
        prompts = [source.take(item) if ahead else make(item) for item in items]
        time.sleep(0.005)
        return [Generation(f"{prompt} {random.random()}") for prompt in prompts]

    work_loop(root, WORK, ITEMS, answer, chunk, prepare=source.prepare if ahead else None)
    state = JournalState(RunPaths(root).journal, WORK.epochs)
    assert sum(isinstance(news, Answer) for news in state.poll()) == 24
    return {
        key: answer.text or answer.failure or "" for key, answer in state.answers.items()
    }, source


def quiet(item: Item) -> str:
    return f"prompt of {item.benchmark} {item.id}"


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_answers_are_the_same_and_most_prompts_were_ready(tmp_path: Path, chunk: int) -> None:
    with_it, source = run(tmp_path / "with", quiet, ahead=True, chunk=chunk)
    without, _ = run(tmp_path / "without", quiet, ahead=False, chunk=chunk)
    assert with_it == without
    assert source.used >= 8


def test_prompts_that_draw_random_numbers_are_made_in_their_own_turn(tmp_path: Path) -> None:
    def shuffled(item: Item) -> str:
        return f"{random.random()}" if item.benchmark == "a" else "plain"

    with_it, source = run(tmp_path / "with", shuffled, ahead=True)
    without, _ = run(tmp_path / "without", shuffled, ahead=False)
    assert with_it == without
    assert 0 < source.used < 12, "those of the other benchmark were ready"


def test_it_is_made_elsewhere_and_one_at_a_time(tmp_path: Path) -> None:
    busy, threads = threading.Lock(), set()

    def alone(item: Item) -> str:
        assert busy.acquire(blocking=False), "two prompts at once"
        threads.add(threading.current_thread().name)
        time.sleep(0.01)
        busy.release()
        return item.id

    run(tmp_path, alone, ahead=True, chunk=3)
    assert len(threads) == 2


def test_what_cannot_be_read_fails_in_its_own_turn(tmp_path: Path) -> None:
    def broken(item: Item) -> str:
        if item.id == "5":
            raise OSError("no such frame")
        return item.id

    answers, _ = run(tmp_path, broken, ahead=True)
    assert {key: text for key, text in answers.items() if "frame" in text} == {
        ("a", "5"): "OSError: no such frame",
        ("b", "5"): "OSError: no such frame",
    }


def test_little_is_kept_and_what_others_got_is_dropped() -> None:
    source: Prefetcher[str] = Prefetcher(quiet)
    one, two, three, four = ITEMS["a"][:4]
    source.prepare([one], [two])
    assert source.take(one) == quiet(one)
    source.prepare([three], [four])
    assert source.take(three) == quiet(three)
    assert set(source._made) == {four}
    source.prepare([four], ITEMS["b"][:1])
    assert source.take(four) == quiet(four) and source.used == 1
    assert not source._made, "nothing of another benchmark"


class Request:
    """As lmms-eval's Instance: the arguments of a class that is given ``doc_to_visual``."""

    def __init__(self, number: int, read) -> None:
        self.task_name, self.doc_id, self.metadata = "task", number, {"split": "test"}
        self.arguments: tuple = (
            f"question {number}",
            {"max_new_tokens": 8},
            read,
            number,
            "task",
            "test",
        )

    @property
    def args(self) -> tuple:
        return self.arguments


def test_lmms_evals_own_classes_find_the_next_pictures_read(tmp_path: Path) -> None:
    from easi_lmms_eval.prefetch_media import prefetch_media

    reads: list[tuple[str, str]] = []

    class Model:
        task_dict: ClassVar[dict[str, object]] = {
            "task": {"test": [f"document {number}" for number in range(12)]}
        }

    def read(document: str, style: str = "plain") -> list[str]:
        reads.append((document, threading.current_thread().name))
        return [f"pictures of {document}, {style}"]

    items = {f"task:{number}": Item("a", f"task:{number}") for number in range(12)}
    requests = {name: Request(number, read) for number, name in enumerate(items)}
    source = prefetch_media(Model(), requests, items)

    def answer(asked: Sequence[Item]) -> list[Generation]:
        request = requests[asked[0].id]
        document, visual = Model.task_dict["task"]["test"][request.doc_id], request.args[2]
        first = visual(document)
        first.append("changed by the class")
        return [Generation(f"{first[0]}; {visual(document)}; {visual(document, style='again')}")]

    work = Work((Assignment("a", "A"),))
    work_loop(tmp_path, work, {"a": list(items.values())}, answer, prepare=source.prepare)
    state = JournalState(RunPaths(tmp_path).journal, work.epochs)
    state.poll()
    assert {name: answer.text for (_, name), answer in state.answers.items()} == {
        f"task:{number}": f"pictures of document {number}, plain; "
        f"['pictures of document {number}, plain']; ['pictures of document {number}, again']"
        for number in range(12)
    }
    assert source.used == 11
    assert sum(name != threading.main_thread().name for _, name in reads) == 11
