"""The dispatcher of a launch: it hands out the questions and alone writes the journal.

It outlives every worker, so nothing has to be agreed upon: a worker asks for a lease, sends each
answer as it is given and says when the lease is over. A worker that is gone loses its leases, and
what is open of them is handed out again. What has been done is known from the journal alone; an
error in the bookkeeping here can repeat an answer but never lose one.

This module does no input or output but the journal's. ``dispatch_server.py`` lets workers of other
processes speak to it.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.errors import EasiError
from ..core.run_folder import RunPaths
from .circuit_breaker import ENOUGH, CircuitBreaker
from .journal import Answer, Journal, Loaded, Phase
from .journal_state import SOLO_DEATHS, JournalState
from .lease import Lease, RaisedQuestion
from .schedule import Pace, Schedule, make_pools
from .work import Chunk, Item, Key, Work

# A question is recorded as failed after so many tries, deaths of workers, or killed hangs.
MAX_TRIES = 2
MAX_DEATHS = 3
MAX_HANGS = 2
# Seconds for which a question that raised is left to other workers, though all of them are busy.
PATIENCE = 5.0


@dataclass(frozen=True)
class Broken:
    """The worker can no longer answer and must be restarted; ``reason`` says what shows that."""

    reason: str


@dataclass
class _Again:
    """Questions to be handed out once more.

    Attributes:
        tries: How often they already raised, on any worker.
        avoid: The worker that should not get them, if there is another one.
        last: Asked only when nothing else is left, because workers died over them.
        since: When they came back; None for questions that were not handed out before.
    """

    places: Chunk
    tries: int = 0
    avoid: str = ""
    last: bool = False
    since: float | None = None


@dataclass
class _Open:
    """A lease that is not over."""

    lease: Lease
    tries: int
    began: float
    left: list[int]  # places without an outcome here


@dataclass(eq=False)
class Member:
    """A worker's attempt, as the dispatcher knows it.

    Attributes:
        journal: The file of the attempt.
        breaker: Judges whether the worker is broken.
        at_once: How many leases it has open at a time.
        reserved: Questions held for it, to be leased next.
    """

    journal: Journal
    breaker: CircuitBreaker
    at_once: int = 1
    reserved: Chunk = ()
    leases: dict[int, _Open] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.journal.worker


class Dispatcher:
    """Hands out the questions of one stage of a launch; not to be shared between threads.

    Args:
        run_root: Folder of the run.
        work: The work of this launch and stage.
        patience: See ``PATIENCE``.
        clock: Gives seconds.
    """

    def __init__(
        self,
        run_root: Path,
        work: Work,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self.work = RunPaths(run_root).journal, work
        self._patience, self._clock = patience, clock
        self._state = JournalState.of(run_root, work)
        self._items: tuple[Item, ...] = ()
        self._place: dict[Key, int] = {}
        self._groups: Mapping[str, Sequence[Item]] = {}
        self._chunk = 1
        self._number: dict[str, int] = {}  # of each benchmark, in serving order
        self._epochs = work.epochs
        self._digest = ""
        self._open: set[int] = set()  # places without an outcome
        self._left: Counter[str] = Counter()  # how many of them each benchmark has
        self._answered: set[int] = set()  # places that were answered in this stage
        self._holder: dict[int, _Open] = {}  # the lease of each place that is held
        self._left_out: frozenset[str] = frozenset()
        self._members: list[Member] = []
        self._again: list[_Again] = []
        self._schedule: Schedule | None = None
        self._drawn: list[int] = []
        self._pace = Pace(0)
        self._leases = 0
        self._unsynced: set[Journal] = set()
        # A thread waits for the disk, so that no worker does.
        self._disk = ThreadPoolExecutor(1, "easi-journal")
        self._syncing: Future[None] | None = None
        self._disk_error: OSError | None = None

    # ---- workers come and go

    def join(self, worker: str, attempt: int, host: str = "", pid: int = 0) -> Member:
        """Admit a worker's attempt; its records go to a file of their own in the journal."""
        journal = Journal(self._folder, worker, attempt, self.work.launch, host, pid)
        member = Member(journal, CircuitBreaker(self._outcome))
        self._members.append(member)
        return member

    def gone(self, member: Member) -> None:
        """A worker ended: what is open of its leases is handed out again.

        A question over which a worker hung is tried again alone. One that was open when
        ``SOLO_DEATHS`` workers died is tried at the very end.
        """
        self._members.remove(member)
        held = [(entry.tries, entry.left) for entry in member.leases.values()]
        held.append((0, [place for place in member.reserved if place in self._open]))
        for _, left in held:
            for place in left:
                self._holder.pop(place, None)
        self.sync()
        self._disk.submit(member.journal.close)
        if not any(left for _, left in held):
            return
        self._state.poll()
        for tries, left in held:
            alone = [place for place in left if self._state.suspect(self._items[place].key)]
            for place in alone:
                deadly = self._state.deaths(self._items[place].key) >= SOLO_DEATHS
                self._put(_Again((place,), tries, last=deadly))
            self._put(_Again(tuple(place for place in left if place not in alone), tries))

    def close(self) -> None:
        """Write everything to the disk and close all files of the journal.

        Raises:
            OSError: The disk did not take it.
        """
        self._disk.submit(self._write_through)
        for member in self._members:
            self._disk.submit(member.journal.close)
        self._disk.shutdown()
        self._members.clear()
        if self._disk_error:
            raise self._disk_error

    # ---- the questions

    @staticmethod
    def digest(items: Mapping[str, Sequence[Item]]) -> str:
        """Digest of questions and their order, by which workers prove that they see the same."""
        names = "\0".join(
            f"{item.benchmark}\0{item.id}" for each in items.values() for item in each
        )
        return hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()

    def knows(self, digest: str) -> bool:
        """Whether the questions are known.

        Raises:
            EasiError: They are, and others than these.
        """
        if self._digest and digest != self._digest:
            raise EasiError(
                "this worker has other questions than the first worker",
                hint="the data changed while the run started; run the same command again",
            )
        return bool(self._digest)

    def learn(self, items: Mapping[str, Sequence[Item]], chunk: int) -> None:
        """Take the questions of each benchmark, in serving order, and plan their order.

        Those of a worker that comes later change nothing; it asks ``knows`` whether they are equal.

        Args:
            items: The questions of each benchmark in document order.
            chunk: Most questions per lease.
        """
        if self._digest:
            return
        self._digest = self.digest(items)
        self._items = tuple(item for each in items.values() for item in each)
        self._place = {item.key: place for place, item in enumerate(self._items)}
        self._state.poll()
        self._open = {
            place for place, item in enumerate(self._items) if not self._state.settled(item.key)
        }
        self._left.update(self._items[place].benchmark for place in self._open)
        self._groups, self._chunk = items, chunk
        self._number = {key: number for number, key in enumerate(items)}
        self._pace = Pace(len(items))
        self._remember_pace()
        self._plan()

    def _plan(self) -> None:
        self._schedule = Schedule(
            make_pools(self._groups, self._state.settled, self._state.suspect, self._chunk),
            [item.cost for item in self._items],
        )
        self._drawn = [0] * len(self._schedule.plan)

    def _remember_pace(self) -> None:
        """Take the pace of answering from the journals of earlier launches."""
        for key, each in self._groups.items():
            known = [
                (item, answer)
                for item in each
                if (answer := self._state.get(item.key)) and answer.failure is None
            ]
            if known:
                self._pace.add(
                    self._number[key],
                    sum(answer.seconds for _, answer in known),
                    sum(item.cost for item, _ in known),
                    len(known),
                )

    def leave_out(self, keys: Collection[str]) -> None:
        """Ask no more questions of these benchmarks."""
        self._left_out = frozenset(keys)

    @property
    def over(self) -> bool:
        """Whether no question is open."""
        return bool(self._digest) and not self._open

    @property
    def came_back(self) -> bool:
        """Whether questions are to be handed out once more."""
        return bool(self._again)

    # ---- what a worker sends

    def record(self, member: Member, record: Answer | Phase | Loaded) -> None:
        """Journal a record of a worker.

        An answer to a question that has an outcome already changes nothing: it was given under a
        lease that was taken back.
        """
        if isinstance(record, Answer):
            place = self._place.get(record.key, -1)
            if place not in self._open:
                return
            member.journal.answer(replace(record, worker=member.name, at=round(time.time(), 3)))
            member.breaker.answered()
            self._answered.add(place)
            self._end(place, member)
        elif isinstance(record, Phase):
            member.journal.phase(record.phase)
        else:
            member.journal.loaded(record.made_with)

    def finish(self, member: Member, number: int, raised: Sequence[RaisedQuestion]) -> None:
        """A lease is over; decide what becomes of the questions that raised.

        Each is tried once more, alone, by another worker if there is one. A question that lacked
        memory waits for a stage with fewer workers.

        Args:
            member: The worker.
            number: Number of the lease.
            raised: The questions that raised.
        """
        entry = member.leases.pop(number)
        asked = entry.lease.places
        suspicious = len(raised) == len(asked)  # else the worker is not suspected
        again: list[Item] = []
        for one in raised:
            if one.place not in entry.left:
                continue
            item, first = self._items[one.place], entry.tries + 1 < MAX_TRIES
            self._release(one.place)
            if suspicious:
                member.breaker.raised()
            # After many failures in a row the lack of memory may be specific to this GPU: another
            # worker tries the question first.
            patient = first and member.breaker.streak > ENOUGH
            if one.lacks_memory and not self.work.final and not patient:
                self._set_aside(member, item, one.reason)
            elif first:
                member.journal.returned([item], one.reason)
                again.append(item)
                self._put(_Again((one.place,), entry.tries + 1, avoid=member.name))
            else:
                self._fail(member, item, number, one.reason)
                member.breaker.blame_questions()
        if again and suspicious:
            member.breaker.gave_back(again)
        self._take_back(entry)  # what has no outcome
        self._pace.add(
            self._number[self._items[asked[0]].benchmark],
            (self._clock() - entry.began) / member.at_once,
            sum(self._items[place].cost for place in asked),
            len(asked),
        )

    def give_back(self, member: Member, number: int, reason: str) -> None:
        """Take back a lease whose questions are not at fault."""
        entry = member.leases.pop(number)
        member.journal.returned([self._items[place] for place in entry.left], reason)
        self._take_back(entry)

    def sync(self) -> None:
        """Begin to write what is new in the journal to the disk.

        Raises:
            OSError: The disk did not take what was written before.
        """
        if self._disk_error:
            raise self._disk_error
        if self._syncing is None or self._syncing.running() or self._syncing.done():
            self._syncing = self._disk.submit(self._write_through)

    def _write_through(self) -> None:
        try:
            for _ in range(len(self._unsynced)):
                self._unsynced.pop().sync()
        except OSError as error:
            self._disk_error = error

    # ---- what a worker is given

    def ask(self, member: Member, ahead: bool = False) -> Lease | Broken | None:
        """The next questions of a worker.

        A worker whose questions fail one after the other gets only what others gave back, until
        another worker shows whether the questions or the worker are at fault.

        Args:
            member: The worker.
            ahead: Whether further questions are reserved for it, which it prepares meanwhile.

        Returns:
            A lease; Broken; or None if there is none now.
        """
        if self._schedule is None or self.over:
            return None
        others = len(self._members) > 1
        planned = True  # whether it may get questions that were not handed out before
        if member.at_once == 1:  # the calls that are still open may bring answers
            if reason := (
                member.breaker.broken()
                if others
                else member.breaker.broken_alone(member.journal.attempt)
            ):
                return Broken(reason)
            planned = not (others and member.breaker.is_open)
        while entry := self._next(member, planned, others):
            places = self._admissible(member, entry)
            if not places:
                continue
            self._leases += 1
            if ahead and planned and not member.reserved and self._plenty():
                member.reserved = self._draw()
            lease = Lease(self._leases, places, entry.since is not None, member.reserved)
            items = [self._items[place] for place in places]
            back = lease.returned or any(self._state.hangs(item.key) for item in items)
            member.journal.leased(items, len(items), now=False, back=back)
            held = _Open(lease, entry.tries, self._clock(), list(places))
            member.leases[lease.number] = held
            self._holder.update(dict.fromkeys(places, held))
            return lease
        if planned and not self._again and not any(each.leases for each in self._members):
            if self.over:
                return None
            # An error in the bookkeeping: some questions are open and nobody has them.
            self._state.poll()
            self._plan()
            return self.ask(member, ahead)
        return None

    def _next(self, member: Member, planned: bool, others: bool) -> _Again | None:
        """What to hand out next: what came back, what is reserved, the plan, and what is left."""
        now = self._clock()
        for entry in self._again:
            if not entry.last and entry.avoid != member.name:
                self._again.remove(entry)
                return entry
        if not planned:
            return None
        if chunk := self._take_reserved(member) or self._draw():
            return _Again(chunk)
        for entry in self._again:
            left_to_others = entry.avoid == member.name and others
            waited = now - (entry.since or 0.0)
            if not (left_to_others and waited < self._patience) and not (
                entry.last and member.leases
            ):
                self._again.remove(entry)
                return entry
        return None

    def _take_reserved(self, member: Member) -> Chunk:
        chunk, member.reserved = member.reserved, ()
        return chunk

    def _draw(self) -> Chunk:
        """Take the next chunk of the plan; empty if there is none."""
        assert self._schedule is not None
        pool = self._schedule.choose(self._drawn, self._pace.scales(), len(self._members))
        if pool is None:
            return ()
        self._drawn[pool] += 1
        return self._schedule.plan[pool][self._drawn[pool] - 1]

    def _plenty(self) -> bool:
        """Whether enough remains for the other workers if one gets a chunk ahead."""
        assert self._schedule is not None
        left = sum(
            len(pool) - count for pool, count in zip(self._schedule.plan, self._drawn, strict=True)
        )
        return len(self._members) == 1 or left > 4 * len(self._members)

    def _admissible(self, member: Member, entry: _Again) -> Chunk:
        """The places of an entry that are to be asked; the others get their outcome here."""
        wanted = []
        for place in entry.places:
            if place not in self._open:
                continue
            item = self._items[place]
            if reason := self._deadly(item):
                self._fail(member, item, self._leases + 1, reason)
            elif item.benchmark in self._left_out:
                self._set_aside(member, item, "its benchmark was set aside")
            else:
                wanted.append(place)
        return tuple(wanted)

    def _deadly(self, item: Item) -> str:
        """Why this question is not asked again, or ""."""
        if self._state.hangs(item.key) >= MAX_HANGS:
            return f"Hung: {MAX_HANGS} workers were killed because they gave no answer to this"
        if self._state.deaths(item.key) >= MAX_DEATHS:
            return f"Killed: {MAX_DEATHS} workers died while they answered this"
        return ""

    # ---- outcomes

    def _fail(self, member: Member, item: Item, fence: int, reason: str) -> None:
        """Journal a final failure."""
        answer = Answer(
            item.benchmark,
            item.id,
            self._epochs[item.benchmark],
            None,
            0.0,
            failure=reason,
            worker=member.name,
            fence=fence,
            launch=self.work.launch,
            at=round(time.time(), 3),
        )
        member.journal.answer(answer)
        self._end(self._place[item.key], member)

    def _set_aside(self, member: Member, item: Item, reason: str) -> None:
        """Journal a question that is not asked in this stage."""
        member.journal.aside([item], reason, self.work.stage)
        self._end(self._place[item.key], member)

    def _end(self, place: int, member: Member) -> None:
        """A question has its outcome in a worker's journal: no lease holds it any more.

        With the last one of a benchmark the journal is written to the disk.
        """
        self._unsynced.add(member.journal)
        self._open.remove(place)
        if (entry := self._holder.pop(place, None)) is not None:
            entry.left.remove(place)
        benchmark = self._items[place].benchmark
        self._left[benchmark] -= 1
        if not self._left[benchmark]:
            self.sync()

    def _outcome(self, item: Item) -> bool | None:
        """Whether a question was answered in this stage; None if it is open."""
        place = self._place[item.key]
        return None if place in self._open else place in self._answered

    def _release(self, place: int) -> None:
        """No lease holds this question any more, and it has no outcome yet."""
        self._holder.pop(place).left.remove(place)

    def _take_back(self, entry: _Open) -> None:
        """Hand out what is left of a lease once more."""
        left = tuple(entry.left)
        for place in left:
            self._release(place)
        self._put(_Again(left, entry.tries))

    def _put(self, entry: _Again) -> None:
        """Hand these questions out again."""
        entry.places = tuple(place for place in entry.places if place in self._open)
        if entry.places:
            entry.since = self._clock()
            self._again.append(entry)
