"""Which of several servers is asked, how often, and when they are given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from easi_eval.core.errors import EasiError, ServersGone
from easi_eval.engine.served.pool import DROPS, VARIABLE, ServerPool, patience
from easi_eval.engine.served.replies import ServerBusy, ServerDown


@dataclass
class Toy:
    """A server that does what ``then`` does, and counts."""

    url: str
    then: Callable[[int], None] = lambda number: None
    asked: int = 0
    most: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> str:
        with self._lock:
            self.asked += 1
            self._open += 1
            self.most = max(self.most, self._open)
        try:
            self.then(self.asked)
            return self.url
        finally:
            with self._lock:
                self._open -= 1


class Clock:
    """Time that passes by a second whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def down(number: int) -> None:
    raise ServerDown("connection refused", asked=False)


def test_the_server_with_the_fewest_open_questions_is_asked() -> None:
    both = threading.Barrier(4, timeout=30)
    servers = [Toy(name, lambda number: both.wait() and None) for name in "ab"]
    pool = ServerPool(servers, start=4, most=4)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pool.ask(Toy.ask), range(4)))
    assert [server.asked for server in servers] == [2, 2]


def test_no_server_has_more_open_than_its_limit() -> None:
    server = Toy("a")
    pool = ServerPool([server], start=3, most=3)
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda _: pool.ask(Toy.ask), range(60)))
    assert server.asked == 60 and server.most <= 3


def test_a_dead_servers_questions_go_to_another_and_none_is_lost() -> None:
    dead, well = Toy("dead", down), Toy("well")
    pool = ServerPool([dead, well], start=2, most=2)
    assert [pool.ask(Toy.ask) for _ in range(20)] == ["well"] * 20
    assert dead.asked < 20 and pool.waiting() == ""


def test_a_server_that_comes_back_is_asked_again() -> None:
    def back_after_two(number: int) -> None:
        if number <= 2:
            down(number)

    server = Toy("a", back_after_two)
    pool = ServerPool([server], start=2, most=2, clock=Clock(), every=0.01)
    assert pool.ask(Toy.ask) == "a" and server.asked == 3 and pool.waiting() == ""


def test_servers_that_stay_dead_end_the_run_with_their_words() -> None:
    pool = ServerPool(
        [Toy("x", down), Toy("y", down)], 2, 2, patience=30, clock=Clock(), every=0.01
    )
    with pytest.raises(ServersGone, match=r"30 s \(x: connection refused; y: connection") as told:
        pool.ask(Toy.ask)
    assert "--base-url" in told.value.hint
    assert pool.waiting() == "waiting for x: connection refused; y: connection refused"


def test_the_limit_is_halved_when_a_server_is_busy_and_grows_again_slowly() -> None:
    def busy_once(number: int) -> None:
        if number == 1:
            raise ServerBusy("too many", 2.0)

    pool = ServerPool([Toy("a", busy_once)], start=16, most=16, clock=Clock(), every=0.01)
    pool.ask(Toy.ask)
    assert pool.width == 8
    for _ in range(50):  # one at a time: the limit is never reached, and there is no need for more
        pool.ask(Toy.ask)
    assert pool.width == 8


def test_a_question_without_an_answer_halves_the_limit_and_is_told() -> None:
    def silent(number: int) -> None:
        raise TimeoutError("no answer")

    pool = ServerPool([Toy("a", silent)], start=16, most=16)
    with pytest.raises(TimeoutError):
        pool.ask(Toy.ask)
    assert pool.width == 8 and pool.waiting() == ""


def test_full_use_without_trouble_raises_the_limit() -> None:
    pool = ServerPool([Toy("a")], start=1, most=4)
    for _ in range(40):
        pool.ask(Toy.ask)
    # Alone, one question at a time never needs more than one beside it.
    assert pool.width == 2


def test_a_question_that_a_server_ends_over_again_and_again_is_given_up() -> None:
    def ends(_: Toy) -> str:
        nonlocal asked
        asked += 1
        raise ServerDown("disconnected")

    asked, over = 0, threading.Event()
    pool = ServerPool([Toy("a")], 2, 2, patience=1e9, clock=Clock(), every=0.001)

    def others() -> None:
        while not over.is_set():
            pool.ask(Toy.ask)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="disconnected"):
            pool.ask(ends)
    finally:
        over.set()
        thread.join()
    assert asked >= DROPS


def test_a_dead_server_that_takes_connections_fails_no_question() -> None:
    def ends(number: int) -> None:
        if number <= 2 * DROPS:
            raise ServerDown("disconnected")

    server = Toy("a", ends)
    pool = ServerPool([server], 2, 2, patience=1e9, clock=Clock(), every=0.001)
    assert pool.ask(Toy.ask) == "a" and server.asked == 2 * DROPS + 1


def test_a_refused_question_is_told_and_says_nothing_about_the_server() -> None:
    def refuses(number: int) -> None:
        raise RuntimeError("the server answered 400: too long")

    pool = ServerPool([Toy("a", refuses)], 16, 16)
    with pytest.raises(RuntimeError, match="too long"):
        pool.ask(Toy.ask)
    assert pool.width == 16 and pool.waiting() == ""


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(EasiError, match=VARIABLE):
        patience()
