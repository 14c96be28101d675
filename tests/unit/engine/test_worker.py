"""The worker loop records every outcome, whatever the model does."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.core.errors import DiskFull, ServersGone
from easi_eval.engine.dispatch_client import BrokenWorker, InProcessClient
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import Answer, Journal, Phase
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.lease import Lease
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop
from program import wait_until

WORK = Work((Assignment("a", "A"), Assignment("b", "B", epoch=2)))
ITEMS = {"a": [Item("a", str(n)) for n in range(6)], "b": [Item("b", str(n)) for n in range(4)]}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EASI_DISPATCHER", "EASI_WORKER", "EASI_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)


def echo(items: Sequence[Item]) -> list[Generation]:
    return [
        Generation(
            f"{item.benchmark}:{item.id}", tokens=3, finish="stop", frames=1, prompt="f" * 16
        )
        for item in items
    ]


def answers(root: Path, launch: int | None = None) -> dict[tuple[str, str], Answer]:
    state = JournalState(root / "journal", WORK.epochs, launch)
    state.poll()
    return state.answers


def phases(root: Path) -> list[str]:
    return [
        news.phase
        for news in JournalState(root / "journal", WORK.epochs).poll()
        if isinstance(news, Phase)
    ]


def test_everything_is_answered_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASI_WORKER", "w5")
    monkeypatch.setenv("EASI_ATTEMPT", "2")
    work_loop(tmp_path, WORK, ITEMS, echo, chunk=4)
    found = answers(tmp_path)
    assert {key: answer.text for key, answer in found.items()} == {
        i.key: f"{i.benchmark}:{i.id}" for g in ITEMS.values() for i in g
    }
    one = found["b", "3"]
    assert (one.epoch, one.tokens, one.finish, one.frames, one.prompt, one.worker, one.fence) == (
        2,
        3,
        "stop",
        1,
        "f" * 16,
        "w5",
        3,
    )
    assert phases(tmp_path) == ["answering", "done"]
    assert [path.name[:5] for path in (tmp_path / "journal").iterdir()] == ["w5.2."]


def test_phases_before_the_loop_go_to_the_same_journal(tmp_path: Path) -> None:
    dispatcher = InProcessClient(tmp_path, WORK)
    dispatcher.phase("loading the model")
    work_loop(tmp_path, WORK, ITEMS, echo, dispatcher=dispatcher)
    assert phases(tmp_path) == ["loading the model", "answering", "done"]
    assert len(list((tmp_path / "journal").iterdir())) == 1


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    work_loop(tmp_path, WORK, ITEMS, echo)

    def never(items: Sequence[Item]) -> list[Generation]:
        raise AssertionError(f"asked again: {items}")

    work_loop(tmp_path, WORK, ITEMS, never)
    assert phases(tmp_path)[-1] == "done"


def test_chunks_stay_within_a_benchmark_and_a_size(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def note(items: Sequence[Item]) -> list[Generation]:
        asked.append([f"{item.benchmark}{item.id}" for item in items])
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, note, chunk=4)
    assert asked == [["a0", "a1", "a2", "a3"], ["a4", "a5"], ["b0", "b1", "b2", "b3"]]


def test_an_item_that_always_raises_fails_alone(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def picky(items: Sequence[Item]) -> list[Generation]:
        asked.update(item.id for item in items if item.benchmark == "a")
        if any(item.key == ("a", "2") for item in items):
            raise ValueError("unreadable\n  image")
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, picky, chunk=3)
    found = answers(tmp_path)
    assert found["a", "2"].failure == "ValueError: unreadable image"
    assert found["a", "2"].text is None
    assert sum(answer.failure is None for answer in found.values()) == 9
    assert asked == {"0": 2, "1": 2, "2": 3, "3": 1, "4": 1, "5": 1}, (
        "in the chunk, alone, and once more"
    )


def test_an_exception_without_a_text_is_told_with_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception alone, in a batch, and from a chain.

    The traceback is dropped before the reason is written.
    """

    def forward(item: Item) -> Generation:
        if item.id == "1":
            raise NotImplementedError
        if item.id == "2":
            {"a": 1}["depth"]
        if item.id == "3":
            raise AssertionError  # pytest gives an assert here a text
        if item.id == "4":
            raise ValueError(" \n")
        return Generation(item.id)

    work_loop(tmp_path, WORK, ITEMS, lambda items: [forward(item) for item in items], chunk=3)
    line = forward.__code__.co_firstlineno
    told = {
        "1": ("NotImplementedError: no text", 2),
        "2": ("KeyError: 'depth'", 4),
        "3": ("AssertionError: no text", 6),
        "4": ("ValueError: no text", 8),
    }
    assert {
        item: answer.failure
        for (key, item), answer in answers(tmp_path).items()
        if key == "a" and answer.failure
    } == {
        item: f"{text}, at test_worker.py:{line + below} in forward"
        for item, (text, below) in told.items()
    }
    said = capfd.readouterr().err
    for item, (text, below) in told.items():
        assert (
            f"\n{text}, at test_worker.py:{line + below} in forward\n" in said
            and f"a {item} raised" in said
        )


def test_a_result_that_is_an_exception_concerns_that_item_only(tmp_path: Path) -> None:
    failed: set[str] = set()

    def once(items: Sequence[Item]) -> list[Generation | Exception]:
        bad = {item.id for item in items if item.id in "13"} - failed
        failed.update(bad)
        return [MemoryError("out") if item.id in bad else Generation(item.id) for item in items]

    work_loop(tmp_path, WORK, ITEMS, once, chunk=6)
    assert all(answer.failure is None for answer in answers(tmp_path).values())
    assert failed == {"1", "3"}


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (
            lambda items: [Generation(None)] * len(items),
            "TypeError: the model answered NoneType, not text",
        ),
        (lambda items: ["text"] * len(items), "TypeError: the model answered str, not text"),
        (lambda items: [], "RuntimeError: 1 questions were asked and 0 answered"),
        (
            lambda items: [Generation("x")] * (len(items) + 1),
            "RuntimeError: 1 questions were asked and 2 answered",
        ),
    ],
)
def test_a_model_that_breaks_its_contract(tmp_path: Path, results, reason: str) -> None:
    work_loop(tmp_path, WORK, ITEMS, results, chunk=1)
    assert {answer.failure for answer in answers(tmp_path).values()} == {reason}


def test_failures_are_asked_again_in_the_next_launch_only(tmp_path: Path) -> None:
    def broken(items: Sequence[Item]) -> list[Generation]:
        raise OSError("no network")

    work_loop(tmp_path, WORK, ITEMS, broken)
    work_loop(tmp_path, WORK, ITEMS, echo)
    assert {answer.failure for answer in answers(tmp_path).values()} == {"OSError: no network"}
    work_loop(tmp_path, replace(WORK, launch=1), ITEMS, echo)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None}


def test_secrets_do_not_reach_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "correct-horse-battery")

    def leak(items: Sequence[Item]) -> list[Generation]:
        raise PermissionError("key correct-horse-battery refused")

    work_loop(tmp_path, WORK, ITEMS, leak)
    reason = answers(tmp_path)["a", "0"].failure
    assert (
        reason is not None and "horse" not in reason and reason.startswith("PermissionError: key ")
    )
    assert b"horse" not in b"".join(path.read_bytes() for path in (tmp_path / "journal").iterdir())


@pytest.mark.parametrize("name", ["AcceleratorError", "EngineDeadError"])
def test_a_broken_device_or_engine_ends_the_worker_and_costs_no_answer(
    tmp_path: Path, name: str
) -> None:
    # torch's and vLLM's types: every later call in this process fails
    broken = type(name, (RuntimeError,), {})

    def breaks(items: Sequence[Item]) -> list[Generation]:
        if items[0].key == ("a", "3"):
            raise broken("illegal memory access")
        return echo(items)

    with pytest.raises(broken):
        work_loop(tmp_path, WORK, ITEMS, breaks)
    assert len(answers(tmp_path)) == 3
    work_loop(tmp_path, WORK, ITEMS, echo)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_full_disk_ends_the_worker_and_no_question_fails_of_it(
    tmp_path: Path, number: int, chunk: int
) -> None:
    """Pictures and frames are written while a prompt is made.

    A few questions that failed because of a full disk would pass as wrong answers.
    """

    def full(items: Sequence[Item]) -> list[Generation]:
        if any(item.key == ("a", "3") for item in items):
            try:
                raise OSError(number, os.strerror(number))
            except OSError:
                raise RuntimeError("cannot save frame") from None  # some libraries hide what it was
        return echo(items)

    with pytest.raises(DiskFull, match="the disk is full; answers so far are kept"):
        work_loop(tmp_path, WORK, ITEMS, full, chunk=chunk)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None} and len(
        answers(tmp_path)
    ) == 3
    state = JournalState.of(tmp_path, WORK)
    state.poll()
    assert not any(state.deaths(item.key) for group in ITEMS.values() for item in group)
    work_loop(tmp_path, WORK, ITEMS, echo)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None}


class OutOfMemoryError(RuntimeError):
    """Stands for torch's type of that name."""


def test_what_lacks_memory_in_a_batch_is_asked_again_alone(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def greedy(items: Sequence[Item]) -> list[Generation]:
        asked.update(item.id for item in items if item.benchmark == "a")
        if len(items) > 1 or (asked[items[0].id] == 2 and items[0].id == "1"):
            raise OutOfMemoryError("CUDA out of memory")
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, greedy, chunk=3)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None}
    assert asked == {"0": 2, "1": 3, "2": 2, "3": 2, "4": 2, "5": 2}, (
        "with the others, alone, and once more when the memory was free"
    )


@pytest.mark.parametrize("chunk", [1, 3])
def test_what_a_failed_call_held_is_free_before_the_next_one(tmp_path: Path, chunk: int) -> None:
    class Tensor:
        """Stands for the activations that are alive where the memory ran out."""

    alive: list[weakref.ref[Tensor]] = []

    def greedy(items: Sequence[Item]) -> list[Generation]:
        assert not [one for one in alive if one() is not None]
        if items[0].benchmark == "a":
            tensor = Tensor()
            alive.append(weakref.ref(tensor))
            try:
                raise ValueError(tensor)
            except ValueError as error:
                error.args = ()
                raise OutOfMemoryError("CUDA out of memory") from error
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, greedy, chunk=chunk)
    assert len(alive) >= 18 and {answer.failure for answer in answers(tmp_path).values()} == {
        None,
        "OutOfMemoryError: CUDA out of memory",
    }


def test_what_lacks_memory_waits_for_a_stage_with_fewer_workers(tmp_path: Path) -> None:
    def greedy(items: Sequence[Item]) -> list[Generation]:
        if items[0].key in (("a", "2"), ("b", "0")):
            raise OutOfMemoryError("CUDA out of memory")
        return echo(items)

    crowded = replace(WORK, final=False)
    work_loop(tmp_path, crowded, ITEMS, greedy)
    assert answers(tmp_path).keys() == {item.key for group in ITEMS.values() for item in group} - {
        ("a", "2"),
        ("b", "0"),
    }
    state = JournalState.of(tmp_path, crowded)
    state.poll()
    assert all(state.settled(item.key) for group in ITEMS.values() for item in group)
    assert state.aside == dict.fromkeys(
        (("a", "2"), ("b", "0")), "OutOfMemoryError: CUDA out of memory"
    )

    asked: list[Item] = []

    def enough_for_one(items: Sequence[Item]) -> list[Generation]:
        asked.extend(items)
        return echo(items) if items[0].key == ("a", "2") else greedy(items)

    final = replace(WORK, stage=1)
    state.stage = final.stage
    assert not state.aside and not state.settled(("a", "2"))
    work_loop(tmp_path, final, ITEMS, enough_for_one)
    found = answers(tmp_path, launch=0)
    assert (
        found["a", "2"].text == "a:2"
        and found["b", "0"].failure == "OutOfMemoryError: CUDA out of memory"
    )
    assert {item.key for item in asked} == {("a", "2"), ("b", "0")}, "nothing else is asked again"


def test_a_question_over_which_two_workers_hung_is_failed_unasked(tmp_path: Path) -> None:
    for attempt in range(2):
        with Journal(tmp_path / "journal", "w9", attempt) as journal:
            journal.leased([Item("a", "4")])
        with Journal(tmp_path / "journal", "w9", attempt) as journal:
            journal.hung([("a", "4")], 300.0)
    asked: list[Item] = []

    def note(items: Sequence[Item]) -> list[Generation]:
        asked.extend(items)
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, note)
    assert (
        answers(tmp_path)["a", "4"].failure
        == "Hung: 2 workers were killed because they gave no answer to this"
    )
    assert len(asked) == 9 and Item("a", "4") not in asked


def test_several_at_once_wait_for_none_of_them(tmp_path: Path) -> None:
    """The first question is answered when all others of its benchmark are in the journal.

    No other benchmark begins before.
    """
    running: Counter[str] = Counter()
    together: set[frozenset[str]] = set()
    most, lock = 0, threading.Lock()

    def slow_first(items: Sequence[Item]) -> list[Generation]:
        nonlocal most
        (item,) = items
        with lock:
            running[item.benchmark] += 1
            together.add(frozenset(+running))
            most = max(most, running.total())
        until = time.monotonic() + 30
        while item.id == "0" and len(answers(tmp_path)) < (4 if item.benchmark == "a" else 7):
            assert time.monotonic() < until, "the others wait for this one"
            time.sleep(0.01)
        time.sleep(0.02)
        with lock:
            running[item.benchmark] -= 1
        if item.id == "3":
            raise ConnectionError("refused")
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, slow_first, at_once=3)
    found = answers(tmp_path)
    assert {
        key: answer.failure for key, answer in found.items() if answer.failure
    } == dict.fromkeys((("a", "3"), ("b", "3")), "ConnectionError: refused")
    assert len(found) == 10 and together == {frozenset("a"), frozenset("b")} and most == 3
    assert (
        sum(
            isinstance(news, Answer)
            for news in JournalState(tmp_path / "journal", WORK.epochs).poll()
        )
        == 10
    )
    assert found["b", "0"].seconds > found["b", "1"].seconds > 0.015


def test_an_answer_that_comes_while_the_servers_are_gone_is_kept(tmp_path: Path) -> None:
    """One of two open questions finds no server; the other is answered before it is given back."""
    both = threading.Barrier(2, timeout=30)
    gone, inside = threading.Event(), list[int]()

    def ask(items: Sequence[Item]) -> list[Generation]:
        both.wait()
        if items[0].id == "0":
            raise ServersGone("no server answers")
        inside.append(threading.get_ident())
        assert gone.wait(30)
        return echo(items)

    class Slow(InProcessClient):
        def give_back(self, lease: Lease, reason: str) -> None:
            super().give_back(lease, reason)
            gone.set()
            # In its pool's loop again, a thread has handed its result over.
            wait_until(lambda: innermost(inside[0]) == "_worker", 30)

    with pytest.raises(ServersGone):
        work_loop(tmp_path, WORK, ITEMS, ask, at_once=2, dispatcher=Slow(tmp_path, WORK))
    assert answers(tmp_path).keys() == {("a", "1")}


def innermost(thread: int) -> str:
    """The function that a thread is in."""
    return sys._current_frames()[thread].f_code.co_name


def test_what_raised_is_asked_once_more_as_many_at_once(tmp_path: Path) -> None:
    """A server was away for a minute: nobody waits for its questions one by one."""
    known, together = set[str](), threading.Barrier(3, timeout=20)

    def away_at_first(items: Sequence[Item]) -> list[Generation]:
        (item,) = items
        if item.benchmark == "a" and item.id not in known:
            known.add(item.id)
            raise ConnectionError("refused")
        if item.benchmark == "a":
            together.wait()  # fails unless three are asked at once
        return echo(items)

    work_loop(tmp_path, WORK, ITEMS, away_at_first, at_once=3)
    assert {answer.failure for answer in answers(tmp_path).values()} == {None}


def test_a_client_that_is_refused_throws_no_answer_away(tmp_path: Path) -> None:
    """Answers that are still open when ten questions in a row raised are journalled.

    A new process would have to ask those questions again.
    """
    many = {"a": ITEMS["a"], "b": [Item("b", str(number)) for number in range(12)]}

    def overloaded(items: Sequence[Item]) -> list[Generation]:
        if items[0].benchmark == "b" and items[0].id != "0":
            raise ConnectionError("refused")
        if items[0].key == ("b", "0"):
            time.sleep(0.5)
        return echo(items)

    work_loop(
        tmp_path,
        WORK,
        many,
        overloaded,
        at_once=2,
        dispatcher=InProcessClient(tmp_path, WORK, attempt=1),
    )
    assert [answer.failure for answer in answers(tmp_path).values()].count(None) == 7


@pytest.mark.parametrize(("attempt", "asked_of_b"), [(1, 10), (2, 24)])
def test_alone_a_worker_that_answers_nothing_any_more_is_started_anew_once(
    tmp_path: Path, attempt: int, asked_of_b: int
) -> None:
    """After some answers, ten questions in a row raise.

    Another process may do better; if it does not, the questions are at fault.
    """
    many = {"a": ITEMS["a"], "b": [Item("b", str(number)) for number in range(12)]}
    asked: Counter[str] = Counter()

    def dead_after_a(items: Sequence[Item]) -> list[Generation]:
        asked.update(item.benchmark for item in items)
        if items[0].benchmark == "b":
            raise ConnectionError("refused")
        return echo(items)

    with contextlib.ExitStack() as stack:
        if attempt == 1:
            stack.enter_context(
                pytest.raises(
                    BrokenWorker, match="10 questions in a row raised errors, after 6 were answered"
                )
            )
        work_loop(
            tmp_path,
            WORK,
            many,
            dead_after_a,
            dispatcher=InProcessClient(tmp_path, WORK, attempt=attempt),
        )
    assert asked == {"a": 6, "b": asked_of_b}


def test_a_batch_of_which_some_was_answered_says_nothing_against_the_worker(tmp_path: Path) -> None:
    many = {"a": ITEMS["a"], "b": [Item("b", str(number)) for number in range(16)]}

    def unreadable(items: Sequence[Item]) -> list[Generation | Exception]:
        return [
            OSError("no such picture")
            if item.benchmark == "b" and int(item.id) >= 4
            else Generation("x")
            for item in items
        ]

    work_loop(
        tmp_path,
        WORK,
        many,
        unreadable,
        chunk=16,
        dispatcher=InProcessClient(tmp_path, WORK, attempt=1),
    )
    assert Counter(answer.failure for answer in answers(tmp_path).values()) == {
        None: 10,
        "OSError: no such picture": 12,
    }


def test_sampling_depends_on_the_question_alone(tmp_path: Path) -> None:
    def sample(items: Sequence[Item]) -> list[Generation]:
        return [Generation(repr(random.random())) for _ in items]

    work_loop(tmp_path / "one", WORK, ITEMS, sample)
    expensive_first = {
        key: [replace(item, cost=float(item.id)) for item in group] for key, group in ITEMS.items()
    }
    work_loop(tmp_path / "two", WORK, expensive_first, sample)
    work_loop(tmp_path / "three", replace(WORK, seed=1), ITEMS, sample)
    one, two, three = (
        {key: answer.text for key, answer in answers(tmp_path / name).items()}
        for name in ("one", "two", "three")
    )
    assert one == two and len(set(one.values())) == 10
    assert not set(one.values()) & set(three.values())


def test_an_item_that_kills_its_worker_is_given_up_and_the_rest_is_answered(tmp_path: Path) -> None:
    """A single worker, restarted as the keeper does it.

    After three deaths the item is recorded as failed.
    """
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from easi_eval.engine.work import Assignment, Item, Work
        from easi_eval.engine.generation import Generation
        from easi_eval.engine.worker import work_loop

        def answer(items):
            if any(item.id == "1" for item in items):
                os.kill(os.getpid(), signal.SIGKILL)
            return [Generation(item.id) for item in items]

        items = {{"a": [Item("a", str(n)) for n in range(6)]}}
        work_loop(Path({str(tmp_path)!r}), Work((Assignment("a", "A"),)), items, answer, chunk=3)
    """)
    codes = [
        subprocess.run([sys.executable, "-c", program], check=False).returncode for _ in range(4)
    ]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    found = answers(tmp_path)
    assert found["a", "1"].failure == "Killed: 3 workers died while they answered this"
    assert sum(answer.failure is None for answer in found.values()) == 5
    state = JournalState.of(tmp_path, WORK)
    assert len([news for news in state.poll() if isinstance(news, Answer)]) == 6, "nothing twice"
