"""The dispatcher hands every question to one worker, once, whichever workers die."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.engine.dispatcher import Broken, Dispatcher, Member
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.lease import Lease, RaisedQuestion
from easi_eval.engine.schedule import Pool, make_pools
from easi_eval.engine.work import Assignment, Item, Work
from program import wait_until

EPOCHS = {"a": 0, "b": 0}
WORK = Work((Assignment("a", "A"), Assignment("b", "B")))


def items(a: int, b: int = 0) -> dict[str, list[Item]]:
    return {
        "a": [Item("a", str(n), cost=n % 5) for n in range(a)],
        "b": [Item("b", str(n)) for n in range(b)],
    }


def pools(of: dict[str, list[Item]], state: JournalState, chunk: int) -> list[Pool]:
    return make_pools(of, state.settled, state.suspect, chunk)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Launch:
    """A dispatcher and what its workers do."""

    def __init__(self, root: Path, a: int, b: int = 0, chunk: int = 1, work: Work = WORK) -> None:
        self.of, self.clock = items(a, b), Clock()
        self.flat = [item for group in self.of.values() for item in group]
        self.dispatcher = Dispatcher(root, work, clock=self.clock)
        self.dispatcher.learn(self.of, chunk)

    def join(self, name: str) -> Member:
        return self.dispatcher.join(name, 0)

    def take(self, member: Member) -> Lease:
        lease = self.dispatcher.ask(member)
        assert isinstance(lease, Lease), lease
        return lease

    def ids(self, lease: Lease) -> list[str]:
        return [f"{item.benchmark}{item.id}" for item in (self.flat[at] for at in lease.places)]

    def write(self, member: Member, lease: Lease, *places: int) -> None:
        for place in places or lease.places:
            item = self.flat[place]
            answer = Answer(item.benchmark, item.id, 0, member.name, 0.0, fence=lease.number)
            self.dispatcher.record(member, answer)

    def serve(self, member: Member, lease: Lease) -> None:
        self.write(member, lease)
        self.dispatcher.finish(member, lease.number, ())

    def raised(self, member: Member, lease: Lease, **facts: bool) -> None:
        reasons = [RaisedQuestion(place, "Oops: once", **facts) for place in lease.places]
        self.dispatcher.finish(member, lease.number, reasons)

    def work(self, member: Member) -> list[list[str]]:
        """Serve leases until there is none; their questions."""
        taken = []
        while isinstance(lease := self.dispatcher.ask(member), Lease):
            taken.append(self.ids(lease))
            self.serve(member, lease)
        assert lease is None
        return taken


def generated(root: Path) -> Counter[tuple[str, str]]:
    """How often each question was answered, over all journals."""
    news = JournalState(root / "journal", EPOCHS).poll()
    return Counter(one.key for one in news if isinstance(one, Answer))


def test_the_journal_is_on_the_disk_at_each_benchmarks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's fsync is watched: what it was asked for and how much the file had then."""
    real, synced = os.fsync, Counter[str]()

    def fsync(file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").resolve()
        synced[path.name[:2]] = path.read_text(encoding="utf-8").count('"kind":"answer"')
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    launch = Launch(tmp_path, a=3, b=2)
    first, second = launch.join("w0"), launch.join("w1")
    launch.serve(first, launch.take(first))
    launch.serve(second, launch.take(second))
    assert not synced, "one question of the benchmark is open"
    launch.serve(first, launch.take(first))
    wait_until(lambda: len(synced) == 2, 30)
    assert synced == {"w0": 2, "w1": 1}, "all workers' answers to its questions"
    launch.serve(second, launch.take(second))
    assert synced == {"w0": 2, "w1": 1}
    lease = launch.take(first)
    launch.raised(first, lease)
    launch.raised(second, launch.take(second))
    wait_until(lambda: synced == {"w0": 2, "w1": 3}, 30)  # the last one failed


def test_a_slow_disk_keeps_no_worker_waiting_and_its_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, rounds = threading.Event(), []

    def fsync(file: int) -> None:
        rounds.append(file)
        assert written.wait(30)
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "fsync", fsync)
    launch = Launch(tmp_path, a=1, b=2)
    member = launch.join("w0")
    launch.serve(member, launch.take(member))
    wait_until(lambda: rounds, 30)
    assert launch.ids(launch.take(member)) == ["b0"], "handed out while the disk writes"
    for _ in range(3):
        launch.dispatcher.sync()  # those that come meanwhile are one
    written.set()
    with pytest.raises(OSError, match="the disk is gone"):
        launch.dispatcher.close()
    assert len(rounds) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        launch.dispatcher.sync()


def test_plan_serves_benchmarks_in_order_and_long_questions_first(tmp_path: Path) -> None:
    plan = pools(items(7, 3), JournalState(tmp_path, EPOCHS), 2)
    # costs 4 3 2 1 1 0 0, ties in document order
    assert plan == [[(4, 3), (2, 1), (6, 0), (5,)], [(7, 8), (9,)], []]


def test_plan_leaves_out_what_is_answered(tmp_path: Path) -> None:
    with Journal(tmp_path, "w0", 0) as journal:
        for number in ("1", "3"):
            journal.answer(Answer("a", number, 0, "x", 0.0))
        journal.answer(Answer("a", "2", 9, "another epoch", 0.0))
        journal.answer(Answer("a", "0", 0, None, 0.0, failure="A: given up"))
    state = JournalState(tmp_path, EPOCHS, launch=0)
    state.poll()
    assert pools(items(6), state, 1) == [[(4,), (2,), (5,)], [], []]
    assert pools(items(6), JournalState(tmp_path, EPOCHS, launch=1), 1) == [
        [(4,), (3,), (2,), (1,), (0,), (5,)],
        [],
        [],
    ]


def test_plan_keeps_suspects_for_the_end(tmp_path: Path) -> None:
    for attempt in range(2):
        with Journal(tmp_path, "w0", attempt) as journal:
            journal.leased([Item("a", "4"), Item("a", "3")])
    state = JournalState(tmp_path, EPOCHS, launch=0)
    state.poll()
    assert pools(items(6, 2), state, 2) == [[(2, 1), (0, 5)], [(6, 7)], [(4,), (3,)]]


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_every_question_is_answered_once(tmp_path: Path, chunk: int) -> None:
    launch = Launch(tmp_path, 150, 50, chunk)
    members = [launch.join(f"w{n}") for n in range(8)]
    rng = random.Random(chunk)
    held: dict[str, Lease] = {}
    while not launch.dispatcher.over:
        member = rng.choice(members)
        if member.name in held:
            launch.serve(member, held.pop(member.name))
        elif isinstance(lease := launch.dispatcher.ask(member), Lease):
            held[member.name] = lease
    assert generated(tmp_path) == Counter(item.key for item in launch.flat)


def test_borrowing_across_the_boundary(tmp_path: Path) -> None:
    """A worker that finds the first benchmark empty goes on to the next one."""
    launch = Launch(tmp_path, 2, 2, 2)
    slow, fast = launch.join("slow"), launch.join("fast")
    assert launch.ids(launch.take(slow)) == ["a1", "a0"]
    assert launch.ids(launch.take(fast)) == ["b0", "b1"]


def test_a_dead_workers_questions_go_on_without_those_it_answered(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 4, chunk=3)
    gone = launch.join("gone")
    lease = launch.take(gone)
    assert launch.ids(lease) == ["a3", "a2", "a1"]
    launch.write(gone, lease, lease.places[0])
    launch.dispatcher.gone(gone)
    assert launch.work(launch.join("heir")) == [["a2", "a1"], ["a0"]]
    assert set(generated(tmp_path).values()) == {1}


def test_a_late_answer_counts_only_while_its_question_is_open(tmp_path: Path) -> None:
    """A worker that lost its lease was only asleep."""
    launch = Launch(tmp_path, 2)
    far, heir = launch.join("far"), launch.join("heir")
    first = launch.take(far)
    launch.dispatcher.give_back(far, first.number, "asleep")
    launch.write(far, first)  # nobody has it yet
    assert launch.work(heir) == [["a0"]]
    launch.write(far, Lease(first.number, (0,)))  # the heir answered it
    state = JournalState(tmp_path / "journal", EPOCHS)
    state.poll()
    assert {key: answer.text for key, answer in state.answers.items()} == {
        ("a", "1"): "far",
        ("a", "0"): "heir",
    }
    assert set(generated(tmp_path).values()) == {1}


def test_a_question_that_the_bookkeeping_lost_is_found_again(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 5)
    launch.dispatcher._drawn[0] = 2
    assert len(launch.work(launch.join("w0"))) == 5
    assert set(generated(tmp_path).values()) == {1} and len(generated(tmp_path)) == 5


def test_what_raised_goes_to_another_worker_and_fails_at_the_second(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 2)
    one, two = launch.join("one"), launch.join("two")
    launch.raised(one, launch.take(one))
    other = launch.take(one)
    assert launch.ids(other) == ["a0"], "its own failure is left to the others"
    again = launch.take(two)
    assert launch.ids(again) == ["a1"] and again.returned
    launch.serve(one, other)
    assert launch.dispatcher.ask(one) is None, "the question may come back"
    launch.raised(two, again)
    assert launch.dispatcher.over
    state = JournalState(tmp_path / "journal", EPOCHS, launch=0)
    state.poll()
    assert state.answers["a", "1"].failure == "Oops: once"


def test_its_own_failure_is_left_to_busy_workers_for_some_seconds(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 2)
    one, two = launch.join("one"), launch.join("two")
    launch.take(two)
    launch.raised(one, launch.take(one))
    assert launch.dispatcher.ask(one) is None
    launch.clock.now = 6.0
    assert launch.ids(launch.take(one)) == ["a0"]


def test_alone_it_tries_again_itself_at_the_end(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 3)
    worker = launch.join("w0")
    launch.raised(worker, launch.take(worker))
    assert launch.work(worker) == [["a1"], ["a0"], ["a2"]]


def test_a_late_worker_finds_everything_done(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 3)
    launch.work(launch.join("w0"))
    assert launch.dispatcher.over and launch.dispatcher.ask(launch.join("w1")) is None


def test_workers_that_see_other_questions_are_refused(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 3)
    assert launch.dispatcher.knows(Dispatcher.digest(items(3)))
    with pytest.raises(EasiError, match="other questions"):
        launch.dispatcher.knows(Dispatcher.digest(items(4)))


def test_a_question_over_which_workers_died_comes_last_and_then_fails(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 3)
    for name in ("w0", "w1"):
        worker = launch.join(name)
        assert launch.ids(launch.take(worker)) == ["a2"]
        launch.dispatcher.gone(worker)
    third = launch.join("w2")
    for wanted in (["a1"], ["a0"]):
        lease = launch.take(third)
        assert launch.ids(lease) == wanted
        launch.serve(third, lease)
    assert launch.ids(launch.take(third)) == ["a2"]
    launch.dispatcher.gone(third)
    assert launch.dispatcher.ask(launch.join("w3")) is None and launch.dispatcher.over
    state = JournalState(tmp_path / "journal", EPOCHS, launch=0)
    state.poll()
    assert state.answers["a", "2"].failure == ("Killed: 3 workers died while they answered this")


def test_a_question_that_hung_twice_fails(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 1)
    for name in ("w0", "w1"):
        worker = launch.join(name)
        launch.take(worker)
        with Journal(tmp_path / "journal", name, 0) as keeper:
            keeper.hung([("a", "0")], 300.0)
        launch.dispatcher.gone(worker)
    assert launch.dispatcher.ask(launch.join("w2")) is None and launch.dispatcher.over
    state = JournalState(tmp_path / "journal", EPOCHS, launch=0)
    state.poll()
    assert (state.answers["a", "0"].failure or "").startswith("Hung: 2 workers were killed")


def test_what_lacks_memory_waits_for_fewer_workers(tmp_path: Path) -> None:
    many = Work(WORK.benchmarks, final=False)
    launch = Launch(tmp_path, 2, work=many)
    worker = launch.join("w0")
    launch.raised(worker, launch.take(worker), lacks_memory=True)
    assert launch.work(worker) == [["a0"]] and launch.dispatcher.over
    state = JournalState(tmp_path / "journal", EPOCHS, launch=0)
    state.poll()
    assert state.aside == {("a", "1"): "Oops: once"}
    later = Launch(tmp_path, 2, work=Work(WORK.benchmarks, stage=1))
    last = later.join("n1w0")
    again = later.take(last)
    assert later.ids(again) == ["a1"]
    # One worker on each machine is the last stage: another machine may have larger GPUs.
    other = later.join("n2w0")
    later.raised(last, again, lacks_memory=True)
    assert later.dispatcher.ask(last) is None
    assert later.work(other) == [["a1"]] and later.dispatcher.over


def test_a_benchmark_that_was_set_aside_is_asked_no_more(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 3, 2)
    launch.dispatcher.leave_out({"a"})
    assert launch.work(launch.join("w0")) == [["b0"], ["b1"]] and launch.dispatcher.over


def test_a_worker_whose_failures_others_answer_is_broken(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 8)
    bad, good = launch.join("bad"), launch.join("good")
    for _ in range(3):
        launch.raised(bad, launch.take(bad))
    assert launch.dispatcher.ask(bad) is None, "it pauses until another one has tried"
    launch.serve(good, launch.take(good))
    told = launch.dispatcher.ask(bad)
    assert isinstance(told, Broken) and told.reason.startswith(
        "3 questions in a row raised errors in this worker"
    )


def test_questions_that_fail_everywhere_are_at_fault(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 8)
    one, two = launch.join("one"), launch.join("two")
    for _ in range(3):
        launch.raised(one, launch.take(one))
    launch.raised(two, launch.take(two))
    assert isinstance(launch.dispatcher.ask(one), Lease)


def test_the_next_questions_are_reserved_and_go_on_if_their_worker_dies(tmp_path: Path) -> None:
    launch = Launch(tmp_path, 20)
    one, two = launch.join("one"), launch.join("two")
    lease = launch.dispatcher.ask(one, ahead=True)
    assert isinstance(lease, Lease) and launch.ids(lease) == ["a4"]
    assert [launch.flat[place].id for place in lease.upcoming] == ["9"]
    assert launch.ids(launch.take(two)) == ["a14"]
    launch.dispatcher.gone(one)
    assert sorted(launch.ids(launch.take(two)) + launch.ids(launch.take(two))) == ["a4", "a9"]


@pytest.mark.parametrize("seed", range(4))
def test_workers_that_fail_and_vanish_at_random(tmp_path: Path, seed: int) -> None:
    """Some workers die in the middle of a lease; others give questions back once."""
    launch, rng = Launch(tmp_path, 60, 40, 4), random.Random(seed)
    members = {f"w{n}": launch.join(f"w{n}") for n in range(6)}
    held: dict[str, Lease] = {}
    failed: set[int] = set()
    while not launch.dispatcher.over:
        launch.clock.now += 1.0
        name, what = rng.choice(sorted(members)), rng.random()
        member = members[name]
        if name not in held:
            if isinstance(lease := launch.dispatcher.ask(member), Lease):
                held[name] = lease
            continue
        lease = held.pop(name)
        if what < 0.1:
            launch.write(member, lease, *lease.places[:1])
            launch.dispatcher.gone(member)
            members[name] = launch.join(name)
            continue
        bad = [at for at in lease.places if at % 7 == 0 and at not in failed]
        failed.update(bad)
        if good := [at for at in lease.places if at not in bad]:
            launch.write(member, lease, *good)
        reasons = [RaisedQuestion(at, "Oops: once") for at in bad]
        launch.dispatcher.finish(member, lease.number, reasons)
    counts = generated(tmp_path)
    assert counts.keys() == {item.key for item in launch.flat} and set(counts.values()) == {1}
