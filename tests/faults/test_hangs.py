"""A worker that gives no answer shows its stacks, is killed and started again.

The question gets one more chance in another worker.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.hang import Limits, Silence
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.work import Assignment, Item, Work

pytestmark = pytest.mark.faults

KEEPER = """
import sys
from pathlib import Path
from easi_eval.engine.hang import Limits, Silence
from easi_eval.engine.processes.keeper import keep
root = Path(sys.argv[1])
watcher = lambda worker, attempt: Silence(root, worker, attempt, Limits(floor=5, first=8))
sys.exit(keep([sys.executable, sys.argv[2], str(root)], root, pause=0.05, watcher=watcher))
"""

WORKER = """
import os, sys, time
from pathlib import Path
from easi_eval.engine.work import Item, Work
from easi_eval.engine.generation import Generation
from easi_eval.engine.worker import work_loop

def answer(items):
    for item in items:
        with open(sys.argv[1] + "/asked", "a") as file:
            file.write(f"{item.id} {os.environ['EASI_WORKER']} {os.getpid()}\\n")
    while any(item.id == "7" for item in items):
        time.sleep(1)                   # for ever
    time.sleep(0.02)
    return [Generation(item.id) for item in items]

work = Work.load(Path(sys.argv[1]))
work_loop(Path(sys.argv[1]), work, {"a": [Item("a", str(number)) for number in range(60)]}, answer)
"""

WORK = Work((Assignment("a", "A"),))


@pytest.mark.timeout(240)
def test_a_question_that_hangs_costs_two_workers_a_restart_and_nobody_an_answer(
    tmp_path: Path,
) -> None:
    WORK.save(tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    with DispatchServer(tmp_path, WORK):
        keepers = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    KEEPER,
                    str(tmp_path),
                    str(tmp_path / "worker.py"),
                ],
                env={**os.environ, "RANK": str(rank)},
                stdout=(tmp_path / f"log{rank}").open("wb"),
                stderr=subprocess.STDOUT,
            )
            for rank in range(2)
        ]
        try:
            assert [keeper.wait(200) for keeper in keepers] == [0, 0]
        finally:
            for keeper in keepers:
                keeper.terminate()
                keeper.wait()
    state = JournalState.of(tmp_path, WORK)
    written = Counter(news.key for news in state.poll() if isinstance(news, Answer))
    assert set(written.values()) == {1} and len(written) == 60
    assert {key: answer.failure for key, answer in state.answers.items() if answer.failure} == {
        ("a", "7"): "Hung: 2 workers were killed because they gave no answer to this"
    }
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert Counter(item for item, *_ in asked) == {
        **{str(number): 1 for number in range(60)},
        "7": 2,
    }
    assert len({pid for item, _, pid in asked if item == "7"}) == 2
    logs = "".join((tmp_path / f"log{rank}").read_text() for rank in range(2))
    assert logs.count("no answer to a 7 for") == 2
    assert len(re.findall(r"worker.py\", line \d+ in answer", logs)) == 2, "where it hangs"
    assert logs.count("ended with SIGKILL; starting it again") == 2
    assert not list(RunPaths(tmp_path).journal.glob("*.gaveup"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def attempt(root: Path, number: int = 1) -> Journal:
    return Journal(RunPaths(root).journal, "w0", number)


def watch(silence: Silence, clock: Clock, seconds: float) -> str:
    """Look as a keeper does, for so long; what the last look said."""
    until, said = clock.now + seconds, ""
    while clock.now < until:
        clock.now += 1
        said = silence.hung()
    return said


def test_how_long_a_worker_may_be_silent(tmp_path: Path) -> None:
    clock = Clock()
    RunPaths(tmp_path).journal.mkdir()
    silence = Silence(tmp_path, "w0", 1, Limits(floor=20, first=100, times=10), clock)
    with attempt(tmp_path) as journal, Journal(RunPaths(tmp_path).journal, "w10", 1) as other:
        assert not watch(silence, clock, 1000) and silence.pid == os.getpid(), (
            "it has nothing in hand: it may wait for others as long as it likes"
        )
        journal.leased([Item("a", str(number)) for number in range(8)], 1, now=False)
        for number, (wait, seconds) in enumerate([(99, 5), (99, 5), (99, 5), (49, 5)]):
            assert not watch(silence, clock, 2)
            # the first ones may take long; then ten times the usual
            assert not watch(silence, clock, wait)
            journal.answer(Answer("a", str(number), 0, "x", seconds))
        assert not watch(silence, clock, 2)
        other.leased([Item("a", "9")])  # another worker's life says nothing of this one's
        assert not watch(silence, clock, 49)
        assert watch(silence, clock, 1) == "no answer to a 4 for 51 s (limit: 50 s)"
        silence.note()
        state = JournalState(RunPaths(tmp_path).journal, {"a": 0}, launch=0)
        state.poll()
        assert (state.hangs(("a", "4")), state.hangs(("a", "5"))) == (1, 0)


def test_another_attempt_knows_the_usual_time_and_may_warm_up_again(tmp_path: Path) -> None:
    clock = Clock()
    with attempt(tmp_path, 1) as journal:
        for number in range(5):
            journal.answer(Answer("a", str(number), 0, "x", 0.1))
    silence = Silence(tmp_path, "w0", 2, Limits(floor=20, first=100), clock)
    with attempt(tmp_path, 2) as journal:
        journal.leased([Item("a", str(number)) for number in range(10, 20)], 1)
        for number in range(3):
            assert not watch(silence, clock, 99)
            journal.answer(Answer("a", str(10 + number), 0, "x", 0.1))
        assert not watch(silence, clock, 2)
        assert watch(silence, clock, 21)
        journal.returned([Item("a", "13")], "Oops: once")
        assert not watch(silence, clock, 2), "it goes on"


def test_a_question_that_came_back_has_more_time(tmp_path: Path) -> None:
    """A chain of thought takes ten minutes among answers of a tenth of a second.

    It is killed once, and the next worker answers it.
    """
    clock = Clock()
    silence = Silence(tmp_path, "w0", 1, Limits(floor=300, first=1800), clock)
    with attempt(tmp_path) as journal:
        for number in range(5):
            journal.answer(Answer("a", str(number), 0, "x", 0.1))
        journal.leased([Item("a", "7")], back=True)
        journal.leased([Item("a", "8")], now=False)
        assert not watch(silence, clock, 1799)
        journal.answer(Answer("a", "7", 0, "x", 1799.0))
        assert not watch(silence, clock, 299)
        assert watch(silence, clock, 5)


def test_the_time_that_the_keeper_was_suspended_does_not_count(tmp_path: Path) -> None:
    """A scheduler stops a whole job with SIGSTOP and lets it go on an hour later: nobody hung."""
    clock = Clock()
    silence = Silence(tmp_path, "w0", 1, Limits(floor=20, first=100), clock)
    with attempt(tmp_path) as journal:
        journal.leased([Item("a", "1")])
        assert not watch(silence, clock, 2)
        for _ in range(2):
            assert not watch(silence, clock, 40)
            clock.now += 3600
            assert not silence.hung()
        assert not watch(silence, clock, 15)
        assert watch(silence, clock, 10)


def test_the_limit_is_the_users_to_set() -> None:
    assert Limits.read({}) == Limits()
    assert Limits.read({"EASI_HANG_SECONDS": "60"}) == Limits(60, 360)
    assert Limits.read({"EASI_HANG_SECONDS": "0"}) is None
    with pytest.raises(EasiError, match="EASI_HANG_SECONDS"):
        Limits.read({"EASI_HANG_SECONDS": "long"})
