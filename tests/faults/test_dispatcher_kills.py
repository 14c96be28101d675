"""Real workers of one dispatcher, killed at random, alone and all at once.

Nothing that was answered is asked again.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_client import SocketClient
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import Answer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop

WORK = Work(tuple(Assignment(key, key) for key in ("a", "b", "c")), seed=5)
ITEMS = {
    assignment.key: [Item(assignment.key, str(n), cost=float(n * 7 % 11)) for n in range(70)]
    for assignment in WORK.benchmarks
}
KEYS = {item.key for group in ITEMS.values() for item in group}


def work(root: Path, work: Work, worker: str, attempt: int, chunk: int) -> None:
    """One worker process, which notes each question before it answers it slowly.

    A seed decides the text. The worker that gets the question named in the file ``held`` keeps it
    for as long as that file exists, and writes its name to ``holder``.
    """
    os.environ.update(EASI_DISPATCHER="1", EASI_WORKER=worker, EASI_ATTEMPT=str(attempt))
    notes = os.open(root / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def answer(items: Sequence[Item]) -> list[Generation]:
        for item in items:
            os.write(notes, f"{item.benchmark} {item.id} {len(items)}\n".encode())
            if (root / "held").exists() and (
                root / "held"
            ).read_text() == f"{item.benchmark} {item.id}":
                (root / "holder").write_text(worker)
                while (root / "held").exists():
                    time.sleep(0.01)
        time.sleep(0.02 * len(items))
        return [
            Generation(f"{item.id} {random.random() if len(items) == 1 else ''}") for item in items
        ]

    work_loop(root, work, ITEMS, answer, chunk)


class Launch:
    """What launcher and keepers do: N workers, each restarted when it dies."""

    def __init__(self, root: Path, work: Work, size: int, chunk: int = 1) -> None:
        self._spawn = multiprocessing.get_context("forkserver")
        self._spawn.set_forkserver_preload(["easi_eval.engine.worker"])
        self._server = DispatchServer(root, work)
        self._server.__enter__()
        self._root, self._work, self._chunk = root, work, chunk
        self._attempts: Counter[int] = Counter()
        self.workers = [self._start(number) for number in range(size)]

    def _start(self, number: int) -> BaseProcess:
        process = self._spawn.Process(
            target=work,
            daemon=True,
            args=(
                self._root,
                self._work,
                f"w{number}",
                self._attempts[number],
                self._chunk,
            ),
        )
        process.start()
        self._attempts[number] += 1
        return process

    def kill(self, number: int) -> None:
        process = self.workers[number]
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)

    def watch(self) -> bool:
        """Restart the killed; whether anybody still works."""
        for number, process in enumerate(self.workers):
            assert process.exitcode in (None, 0, -signal.SIGKILL), "a worker broke"
            if process.exitcode == -signal.SIGKILL:
                process.join()
                self.workers[number] = self._start(number)
        return any(process.is_alive() for process in self.workers)

    def end(self) -> None:
        for number in range(len(self.workers)):
            self.kill(number)
        for process in self.workers:
            process.join()
        self._server.__exit__()


def answers(root: Path) -> dict[tuple[str, str], Answer]:
    state = JournalState(RunPaths(root).journal, WORK.epochs)
    state.poll()
    return state.answers


def asked(root: Path) -> Counter[tuple[str, str]]:
    return Counter(
        (line.split()[0], line.split()[1]) for line in (root / "asked").read_text().splitlines()
    )


def journalled(root: Path) -> Counter[tuple[str, str]]:
    return Counter(
        news.key
        for news in JournalState(RunPaths(root).journal, WORK.epochs).poll()
        if isinstance(news, Answer)
    )


def wait_for(launch: Launch, root: Path, count: int) -> None:
    """Until so many questions have been asked."""
    while not (root / "asked").exists() or sum(asked(root).values()) < count:
        assert launch.watch(), "the launch ended early"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
def test_random_kills_of_workers_and_of_everything(tmp_path: Path, seed: int) -> None:
    """Four workers, then three, then five, with 20 kills of one worker and two of all.

    Only what was in flight is repeated.
    """
    rng = random.Random(seed)
    in_flight = 0
    for launch_number, (size, kills) in enumerate(((4, 8), (3, 6), (5, 6))):
        launch = Launch(tmp_path, replace(WORK, launch=launch_number), size)
        try:
            for _ in range(kills):
                done = sum(asked(tmp_path).values()) if (tmp_path / "asked").exists() else 0
                wait_for(launch, tmp_path, done + rng.randrange(3, 9))
                launch.kill(rng.randrange(size))
                in_flight += 1
            if launch_number < 2:
                in_flight += size
                continue
            while launch.watch():
                time.sleep(0.02)
        finally:
            launch.end()
    found = answers(tmp_path)
    assert found.keys() == KEYS
    assert not [answer.failure for answer in found.values() if answer.failure]
    assert set(journalled(tmp_path).values()) == {1}, "an answer in the journal was computed again"
    assert sum(asked(tmp_path).values()) - len(KEYS) <= in_flight

    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    launch = Launch(undisturbed, WORK, 1)
    while launch.watch():
        time.sleep(0.02)
    launch.end()
    assert {key: answer.text for key, answer in answers(undisturbed).items()} == {
        key: answer.text for key, answer in found.items()
    }
    assert answers(tmp_path) == found, "the same files give the same answers"


@pytest.mark.timeout(120)
def test_a_dead_batch_is_taken_over_by_the_others(tmp_path: Path) -> None:
    """Nobody restarts the killed worker; its chunk is answered by those who live."""
    launch = Launch(tmp_path, WORK, 3, chunk=8)
    try:
        wait_for(launch, tmp_path, 24)
        launch.kill(0)
        while any(process.is_alive() for process in launch.workers):
            time.sleep(0.02)
        assert [process.exitcode for process in launch.workers] == [-signal.SIGKILL, 0, 0]
    finally:
        launch.end()
    assert answers(tmp_path).keys() == KEYS
    assert set(journalled(tmp_path).values()) == {1}
    assert sum(asked(tmp_path).values()) - len(KEYS) <= 8


@pytest.mark.timeout(120)
def test_an_engine_that_batches_gets_whole_batches_to_the_end(tmp_path: Path) -> None:
    """Only what remains of a benchmark is less than a batch."""
    launch = Launch(tmp_path, WORK, 2, chunk=16)
    try:
        while launch.watch():
            time.sleep(0.02)
    finally:
        launch.end()
    sizes: dict[str, Counter[int]] = {assignment.key: Counter() for assignment in WORK.benchmarks}
    for line in (tmp_path / "asked").read_text().splitlines():
        benchmark, _, size = line.split()
        sizes[benchmark][int(size)] += 1
    assert all(counts == {16: 64, 6: 6} for counts in sizes.values()), "70 questions each"
    assert journalled(tmp_path) == Counter(KEYS)


@pytest.mark.timeout(120)
def test_a_stopped_worker_that_comes_back_changes_nothing(tmp_path: Path) -> None:
    """SIGSTOP holds one worker that has a question.

    The other answers the rest and waits for it.
    """
    (tmp_path / "held").write_text("b 3")
    launch = Launch(tmp_path, WORK, 2)
    try:
        while not (tmp_path / "holder").exists() or not (tmp_path / "holder").read_text():
            assert launch.watch(), "the launch ended early"
            time.sleep(0.01)
        stopped = int((tmp_path / "holder").read_text()[1:])
        os.kill(launch.workers[stopped].pid or 0, signal.SIGSTOP)
        (tmp_path / "held").unlink()
        done, since = 0, time.monotonic()
        while time.monotonic() < since + 3:  # until the other has had nothing to do for a while
            if len(answers(tmp_path)) > done:
                done, since = len(answers(tmp_path)), time.monotonic()
            time.sleep(0.1)
        assert ("b", "3") not in answers(tmp_path)
        assert launch.workers[1 - stopped].is_alive()
        os.kill(launch.workers[stopped].pid or 0, signal.SIGCONT)
        while launch.watch():
            time.sleep(0.02)
    finally:
        launch.end()
    assert journalled(tmp_path) == Counter(KEYS)


@pytest.mark.timeout(300)
def test_a_hundred_thousand_questions_over_a_socket(tmp_path: Path) -> None:
    """Every worker gets the same plan, in one line."""
    many = {
        "a": [Item("a", f"question-{number}", cost=float(number % 97)) for number in range(100_000)]
    }
    alone = Work((Assignment("a", "A"),))
    with DispatchServer(tmp_path, alone):
        first, second = (SocketClient(tmp_path, alone, name, 0) for name in ("w0", "w1"))
        with first, second:
            for client in (first, second):
                client.tell(many, 1, 1)
            leases = first.ask(), second.ask()
    places = [place for lease in leases if lease for place in lease.places]
    assert [many["a"][place].cost for place in places] == [96.0, 96.0]
    assert places[0] != places[1]
