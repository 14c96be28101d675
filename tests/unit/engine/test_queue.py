"""The queue gives every question to one worker, once, whichever workers die.

Threads on one local store stand for workers.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.owners import Owner
from easi_eval.engine.queue import Lease, Queue
from easi_eval.engine.schedule import make_pools
from easi_eval.engine.stores import LocalStore
from easi_eval.engine.work import Item

EPOCHS = {"a": 0, "b": 0}
REMOTE = Owner("another machine", 1, 1)


def items(a: int, b: int = 0) -> dict[str, list[Item]]:
    return {
        "a": [Item("a", str(n), cost=n % 5) for n in range(a)],
        "b": [Item("b", str(n)) for n in range(b)],
    }


class Worker:
    """What the worker loop does with a queue, one step at a time."""

    def __init__(
        self,
        root: Path,
        store: LocalStore,
        name: str,
        of: dict[str, list[Item]],
        *,
        chunk: int = 1,
        owner: Owner | None = None,
        **timing: float,
    ) -> None:
        self.journal = Journal(root, name, 0)
        self.state = JournalState(root, EPOCHS, launch=0, skip=self.journal.path.name)
        self.queue = Queue(store, name, of, self.state, chunk, owner=owner, **timing)

    def take(self) -> Lease | None:
        lease = self.queue.next()
        if lease:
            self.journal.leased(lease.items)
        return lease

    def write(self, lease: Lease, *wanted: Item) -> None:
        for item in wanted or lease.items:
            self.journal.answer(
                Answer(item.benchmark, item.id, 0, self.journal.worker, 0.0, fence=lease.fence)
            )

    def work(self, pause: float = 0.0) -> list[Lease]:
        leases = []
        while lease := self.take():
            time.sleep(pause)
            self.write(lease)
            self.queue.done(lease)
            leases.append(lease)
        self.queue.close()
        return leases


def ids(lease: Lease | None) -> list[str]:
    assert lease is not None
    return [f"{item.benchmark}{item.id}" for item in lease.items]


def dead() -> Owner:
    """A process that lived on this machine and is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = Owner(
            Owner.this().host,
            process.pid,
            int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]),
        )
        assert owner.alive_here()
    return owner


def generated(root: Path) -> Counter[tuple[str, str]]:
    """How often each question was answered, over all journals."""
    state = JournalState(root, EPOCHS)
    return Counter(news.key for news in state.poll() if isinstance(news, Answer))


def test_plan_serves_benchmarks_in_order_and_long_questions_first(tmp_path: Path) -> None:
    plan = make_pools(items(7, 3), JournalState(tmp_path, EPOCHS), 2)
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
    assert make_pools(items(6), state, 1) == [[(4,), (2,), (5,)], [], []]
    assert make_pools(items(6), JournalState(tmp_path, EPOCHS, launch=1), 1) == [
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
    assert make_pools(items(6, 2), state, 2) == [[(2, 1), (0, 5)], [(6, 7)], [(4,), (3,)]]


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_every_question_is_answered_once(tmp_path: Path, chunk: int) -> None:
    of, store = items(150, 50), LocalStore()
    threads = [
        threading.Thread(
            target=lambda n=n: Worker(tmp_path, store, f"w{n}", of, chunk=chunk).work()
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert generated(tmp_path) == Counter(item.key for group in of.values() for item in group)


def test_borrowing_across_the_boundary(tmp_path: Path) -> None:
    """A worker that finds the first benchmark empty goes on to the next one.

    The other worker still holds questions of the first.
    """
    store, of = LocalStore(), items(2, 2)
    slow, fast = (
        Worker(tmp_path, store, "slow", of, chunk=2),
        Worker(tmp_path, store, "fast", of, chunk=2),
    )
    assert ids(slow.take()) == ["a1", "a0"]
    assert ids(fast.take()) == ["b0", "b1"]


def test_a_dead_workers_questions_go_on_without_those_it_answered(tmp_path: Path) -> None:
    store, of = LocalStore(), items(4)
    gone = Worker(tmp_path, store, "gone", of, chunk=3, owner=dead())
    lease = gone.take()
    assert ids(lease) == ["a3", "a2", "a1"]
    gone.write(lease, lease.items[0])
    heir = Worker(tmp_path, store, "heir", of, chunk=3)
    leases = heir.work()
    assert sorted(map(ids, leases)) == [["a0"], ["a2", "a1"]]
    assert next(taken for taken in leases if len(taken.items) == 2).fence > lease.fence
    assert set(generated(tmp_path).values()) == {1}


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    me = Owner.this()
    assert me.alive_here() is True
    assert Owner(me.host, me.pid, me.started - 1).alive_here() is False
    assert Owner("another machine", me.pid, me.started).alive_here() is None


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        owner = Owner(
            Owner.this().host, process.pid, int(stat.read_text().rpartition(")")[2].split()[19])
        )
        process.kill()
        while ") Z" not in stat.read_text():
            time.sleep(0.01)
        assert owner.alive_here() is False


def test_a_silent_worker_of_another_machine_loses_its_lease_and_its_late_answer(
    tmp_path: Path,
) -> None:
    store, of = LocalStore(), items(1)
    far = Worker(tmp_path, store, "far", of, owner=REMOTE)
    lease = far.take()
    heir = Worker(tmp_path, store, "heir", of, silent_after=0.3)
    assert [ids(taken) for taken in heir.work()] == [["a0"]]
    far.write(lease)  # it was only asleep
    far.queue.done(lease)
    assert far.queue.next() is None
    state = JournalState(tmp_path, EPOCHS)
    state.poll()
    assert state.answers["a", "0"].text == "far", (
        "the earlier lease wins, whichever was written first"
    )


def test_a_worker_of_another_machine_that_gives_signs_of_life_keeps_its_lease(
    tmp_path: Path,
) -> None:
    store, of = LocalStore(), items(1)
    far = Worker(tmp_path, store, "far", of, owner=REMOTE)
    lease = far.take()
    near = Worker(tmp_path, store, "near", of, silent_after=0.4)
    thread = threading.Thread(target=near.work)
    thread.start()
    for beat in range(12):  # 1.2 s, three times the limit
        store.set("beat/0", f"beat {beat}")
        time.sleep(0.1)
    assert thread.is_alive()
    far.write(lease)
    far.queue.done(lease)
    assert far.queue.next() is None
    thread.join(10)
    assert generated(tmp_path) == {("a", "0"): 1}


def test_a_worker_taken_for_dead_can_go_on(tmp_path: Path) -> None:
    """Once buried it registers anew, so that what it takes afterwards is waited for."""
    store, of = LocalStore(), items(2)
    far = Worker(tmp_path, store, "far", of, owner=REMOTE, look_every=0.0)
    first = far.take()
    store.create("buried/0", "somebody")
    far.write(first)
    far.queue.done(first)
    second = far.take()
    near = Worker(tmp_path, store, "near", of)
    thread = threading.Thread(target=near.work)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    far.write(second)
    far.queue.done(second)
    assert far.queue.next() is None
    thread.join(10)
    assert set(generated(tmp_path).values()) == {1}


def test_a_question_lost_between_two_steps_is_found_in_the_journal(tmp_path: Path) -> None:
    """A worker dies after it drew a number and before it recorded that.

    The only trace is the missing answer.
    """
    store, of = LocalStore(), items(5)
    worker = Worker(tmp_path, store, "w0", of)
    store.add("next/0", 2)
    assert len(worker.work()) == 5
    assert set(generated(tmp_path).values()) == {1} and len(generated(tmp_path)) == 5


def test_the_reader_at_the_end_may_die(tmp_path: Path) -> None:
    """One worker reads the journals at the end of a round.

    If it dies meanwhile, another one reads them.
    """
    store, of = LocalStore(), items(2)
    Worker(tmp_path, store, "gone", of, owner=dead())
    store.create("reader/0/0", "0")
    store.add("next/0", 1)  # a question that only the journals know to be missing
    assert len(Worker(tmp_path, store, "heir", of).work()) == 2


def test_what_raised_goes_to_another_worker(tmp_path: Path) -> None:
    store, of = LocalStore(), items(2)
    one, two = Worker(tmp_path, store, "one", of), Worker(tmp_path, store, "two", of)
    lease = one.take()
    one.queue.give_back(lease, lease.items)
    one.queue.done(lease)
    other = one.take()
    assert ids(other) == ["a0"], "its own failure is left to the others"
    again = two.take()
    assert (ids(again), again.tries) == (["a1"], 1)
    assert again.fence > lease.fence


def test_alone_it_tries_again_itself_at_the_end(tmp_path: Path) -> None:
    worker = Worker(tmp_path, LocalStore(), "w0", items(3))
    lease = worker.take()
    worker.queue.give_back(lease, lease.items)
    worker.queue.done(lease)
    assert [ids(taken) for taken in worker.work()] == [["a1"], ["a0"], ["a2"]]


def test_a_late_worker_finds_everything_done(tmp_path: Path) -> None:
    store, of = LocalStore(), items(3)
    Worker(tmp_path, store, "w0", of).work()
    assert Worker(tmp_path, store, "w1", of).queue.next() is None


def test_workers_that_see_other_questions_are_refused(tmp_path: Path) -> None:
    store = LocalStore()
    Worker(tmp_path, store, "w0", items(3))
    with pytest.raises(EasiError, match="other questions"):
        Worker(tmp_path, store, "w1", items(4))


def test_two_open_leases_are_a_mistake(tmp_path: Path) -> None:
    worker = Worker(tmp_path, LocalStore(), "w0", items(3))
    worker.take()
    with pytest.raises(ValueError, match="still open"):
        worker.queue.next()


@pytest.mark.parametrize("seed", range(4))
def test_threads_that_fail_and_vanish_at_random(tmp_path: Path, seed: int) -> None:
    """Some workers stop in the middle of a lease, as if their process had died.

    Others give questions back once.
    """
    of, store, rng = items(60, 40), LocalStore(), random.Random(seed)
    gone = [dead() for _ in range(3)]
    returned: set[Item] = set()
    lock = threading.Lock()

    def vanish(owner: Owner, after: int) -> None:
        worker = Worker(tmp_path, store, f"gone{owner.pid}", of, chunk=4, owner=owner)
        for _ in range(after):
            if lease := worker.take():
                worker.write(lease)
                worker.queue.done(lease)
        if lease := worker.take():
            worker.write(lease, *lease.items[:1])

    def fail_at_first(name: str) -> None:
        worker = Worker(tmp_path, store, name, of, chunk=4)
        while lease := worker.take():
            with lock:
                bad = [
                    item for item in lease.items if int(item.id) % 7 == 0 and item not in returned
                ]
                returned.update(bad)
            if good := [item for item in lease.items if item not in bad]:
                worker.write(lease, *good)
            worker.journal.returned(bad, "Oops: once")
            worker.queue.give_back(lease, bad)
            worker.queue.done(lease)

    threads = [threading.Thread(target=vanish, args=(owner, rng.randrange(4))) for owner in gone]
    threads += [threading.Thread(target=fail_at_first, args=(f"w{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert generated(tmp_path).keys() == {item.key for group in of.values() for item in group}


def test_what_a_worker_gave_back_before_it_died_is_given_out_once(tmp_path: Path) -> None:
    store, of = LocalStore(), items(3)
    gone = Worker(tmp_path, store, "gone", of, owner=dead())
    lease = gone.take()
    gone.journal.returned(lease.items, "Oops: once")
    gone.queue.give_back(lease, lease.items)
    gone.queue.done(lease)
    heir, other = (
        Worker(tmp_path, store, "heir", of, look_every=0.0),
        Worker(tmp_path, store, "other", of),
    )
    while ids(lease := heir.take()) != ["a2"]:
        heir.write(lease)
        heir.queue.done(lease)
    assert lease.tries == 1
    while taken := other.queue.step()[0]:
        assert ids(taken) != ["a2"], "the heir has it in hand"
        other.write(taken)
        other.queue.done(taken)
    heir.write(lease)
    heir.queue.done(lease)
    assert (
        heir.queue.next() is None
        and other.queue.next() is None
        and set(generated(tmp_path).values()) == {1}
    )
