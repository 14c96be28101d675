"""The work queue of a launch: it decides which worker answers which questions.

There is no master; all workers share one key-value store. It works like this:

- Every worker can compute the plan: chunks of questions in pools, one pool per benchmark. The
  first plan published is the one all workers use. A counter per pool hands the chunks out
  (``serving.py`` chooses the pool).
- Each worker keeps a record of what it holds. A worker that finds the record of a dead worker
  *buries* it: the questions not yet answered go to a list of returned chunks, which is served
  before the plan.
- Once nothing is left to take and no worker holds anything, the journal is read for questions
  without an outcome (a worker may have died between two steps of this protocol). If there are
  any, they become the plan of another round.

The store only decides who does what. What has been done is known from the journal alone, so
nothing is lost with the store, and an error in the bookkeeping can repeat an answer but never
lose one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.errors import EasiError
from .journal_state import SOLO_DEATHS, JournalState
from .owners import Owner
from .peers import SILENT_AFTER, Peers
from .returns import Return, Returns
from .schedule import Choice, Chunk, Pace, Schedule, in_chunks, make_pools
from .stores import Store
from .work import Item

# Seconds between two checks of the other workers; longer where many workers check.
LOOK_EVERY = 2.0
LOOKS = 4  # such checks per second of all workers together
PATIENCE = 5.0  # seconds for which an idle worker leaves its own failed questions to other workers
COUNTED_FOR = 0.2  # seconds for which a worker relies on the counters it read last
_PIECE = 4 << 20  # TCPStore refuses values above 8 MiB


@dataclass(frozen=True)
class Lease:
    """Questions that this worker answers now.

    Attributes:
        items: The questions.
        fence: A number larger than that of every earlier lease of the same questions in this
            launch.
        tries: How often these questions already raised, on any worker.
        places: The questions' positions in the sequence of all questions.
        drawn: The chunks this worker has taken since its previous lease, in the order in which it
            gets them: this lease's own and perhaps later ones. Empty if this lease's chunk was
            announced by an earlier lease.
        returned: Whether the questions were given back by another worker or left by a dead one.
        lost: Questions announced by an earlier lease that were not begun and went to other workers.
    """

    items: tuple[Item, ...]
    fence: int
    tries: int = 0
    places: Chunk = ()
    drawn: tuple[tuple[Item, ...], ...] = ()
    returned: bool = False
    lost: tuple[Item, ...] = ()


class Queue:
    """One worker's view of the queue; not to be shared between threads.

    ``items`` must be the same, in the same order, for all workers (EasiError if not). ``book`` is
    brought up to date here whenever it matters. ``before_idle`` is called before the other workers
    are told that this one holds nothing. With ``ahead`` the worker holds one chunk more than it
    answers, so that the questions of ``upcoming`` can be prepared. Up to ``at_once`` leases may be
    open.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        items: Mapping[str, Sequence[Item]],
        book: JournalState,
        chunk: int = 1,
        owner: Owner | None = None,
        before_idle: Callable[[], None] = lambda: None,
        ahead: bool = False,
        at_once: int = 1,
        look_every: float = LOOK_EVERY,
        silent_after: float = SILENT_AFTER,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if chunk < 1:
            raise ValueError("a chunk holds at least one item")
        self._store, self._book, self._chunk, self._clock = store, book, chunk, clock
        self._groups = {key: tuple(sequence) for key, sequence in items.items()}
        self._items = tuple(item for sequence in self._groups.values() for item in sequence)
        self._number = {key: number for number, key in enumerate(self._groups)}
        self._before_idle, self._ahead, self._at_once = before_idle, ahead, at_once
        self._look_every, self._patience = look_every, patience
        self._leases: list[Lease] = []
        self._begun: dict[Chunk, float] = {}  # start time of each open lease
        self._stock: deque[Chunk] = deque()  # drawn from the plan, not yet leased
        self._fresh: list[tuple[Item, ...]] = []  # drawn since the last lease
        self._lost: list[Item] = []
        self._given_back: set[int] = set()  # places that are no longer this worker's
        self._pace = self._remembered()
        self._looked = clock()
        self._first_seen: dict[int, float] = {}  # returned chunk this worker should avoid -> when
        self._digest = hashlib.sha256(
            "\0".join(item.id for item in self._items).encode("utf-8", "surrogatepass")
        ).hexdigest()
        self._round, self._exhausted = -1, False
        self._order = Schedule([], [])
        # Chunks taken from each pool so far, as read from the store at the time ``_counted``.
        self._drawn: list[int] = []
        self._counted = -COUNTED_FOR
        self._returns = Returns(store)
        self._peers = Peers(
            store, worker, owner or Owner.this(), json.dumps(self._pace.own), silent_after, clock
        )
        self._join()

    def _remembered(self) -> Pace:
        """The pace of answering, as the journals of earlier launches show it."""
        pace = Pace(len(self._groups))
        for key, group in self._groups.items() if len(self._book) else ():
            known = [
                (item, answer)
                for item in group
                if (answer := self._book.get(item.key)) and answer.failure is None
            ]
            if known:
                pace.add_earlier(
                    self._number[key],
                    sum(answer.seconds for _, answer in known),
                    sum(item.cost for item, _ in known),
                    len(known),
                )
        return pace

    # what a worker calls

    def next(self) -> Lease | None:
        """The next questions for this worker; None when all questions have an outcome.

        Waits while other workers hold questions that may come back. Call ``done`` for each earlier
        lease first.
        """
        pause = 0.01
        while True:
            lease, over = self.step()
            if lease or over:
                return lease
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    @property
    def alone(self) -> bool:
        """Whether no other worker was alive when this one last looked."""
        return not self._peers.living

    def step(self, planned: bool = True) -> tuple[Lease | None, bool]:
        """As ``next``, without waiting.

        Args:
            planned: Whether chunks of the plan may be taken, too, and not only returned ones.

        Returns:
            (a lease, False); (None, False) where the caller should ask again; or (None, True) when
            every question has an outcome.

        Raises:
            ValueError: ``at_once`` leases are already open.
        """
        if len(self._leases) >= self._at_once:
            raise ValueError("a lease is still open")
        lease, over = None, False
        if self._clock() - self._looked > max(self._look_every, len(self._peers.living) / LOOKS):
            self._look()
            lease = self._take_returned(idle=False)
        elif not planned:
            lease = self._take_returned(idle=False)
        if lease is None and planned:
            lease = self._take_planned() or (
                self._take_returned(idle=True) if self._leases else None
            )
        if lease is None and not self._leases:
            if planned:
                lease, over = self._take_last()
            else:
                over = self._store.get("over") is not None
                self._rest()
        if lease:
            self._begun[lease.places] = self._clock()
        return lease, over

    def upcoming(self) -> tuple[Item, ...]:
        """The questions of the next lease, if known; returned ones may still come first."""
        return self._of(self._stock[0]) if self._stock else ()

    def done(self, lease: Lease) -> None:
        """Close ``lease``: all its questions have been journalled or given back."""
        # The store is told with the next chunk taken, or when this worker becomes idle.
        self._leases.remove(lease)
        seconds = (self._clock() - self._begun.pop(lease.places)) / self._at_once
        self._pace.add(
            self._number[lease.items[0].benchmark],
            seconds,
            sum(item.cost for item in lease.items),
            len(lease.items),
        )

    def give_back(self, lease: Lease, items: Sequence[Item]) -> None:
        """Give back questions that raised here.

        Each is tried once more on its own, by another worker if there is one.
        """
        for place, item in zip(lease.places, lease.items, strict=True):
            if item in items:
                self._returns.put(
                    Return((place,), lease.fence + 1, lease.tries + 1, avoid=self._peers.me)
                )
                self._given_back.add(place)
        self._say_held()  # whoever buries this worker must not give them out once more

    def close(self) -> None:
        """Stop the worker's signs of life."""
        self._peers.close()

    # taking

    def _take_planned(self) -> Lease | None:
        if not self._stock and not self._exhausted:
            self._draw()
        if not self._stock:
            return None
        chunk = self._stock.popleft()
        lease = self._lease(chunk, self._fence)
        if self._ahead and not self._stock and not self._exhausted and self._plenty():
            self._draw()
            lease = self._leases[-1] = self._with_drawn(lease)
        return lease

    def _draw(self) -> None:
        """Take chunks of the plan into the stock, unless all pools are empty."""
        while (choice := self._choice()) is not None:
            number = self._store.add(self._counter(choice.pool), choice.several) - choice.several
            self._drawn[choice.pool] = number + choice.several
            if chunks := self._order.plan[choice.pool][number : number + choice.several]:
                self._stock.extend(chunks)
                self._fresh += [self._of(chunk) for chunk in chunks]
                self._say_held()
                return
        self._exhausted = True

    def _choice(self) -> Choice | None:
        now = self._clock()
        if now - self._counted > COUNTED_FOR:
            counts = self._store.get_all(
                [self._counter(pool) for pool in range(len(self._order.plan))]
            )
            self._drawn, self._counted = [int(count or 0) for count in counts], now
        return self._order.choose(self._drawn, self._pace.scales(), len(self._peers.living) + 1)

    def _plenty(self) -> bool:
        """Whether enough remains for the other workers if this one takes a chunk ahead."""
        left = sum(
            max(len(pool) - count, 0)
            for pool, count in zip(self._order.plan, self._drawn, strict=True)
        )
        return not self._peers.living or left > 4 * (len(self._peers.living) + 1)

    def _counter(self, pool: int) -> str:
        return f"next/{self._round}/{pool}"

    @property
    def _fence(self) -> int:
        return 1000 * self._round + 1

    def _take_returned(self, idle: bool) -> Lease | None:
        """Take a returned chunk that no worker has taken.

        Unless ``idle``, chunks that failed on this worker and chunks marked ``last`` are skipped.
        If ``idle``, this worker's failed chunks are left to other workers for some seconds, and
        chunks marked ``last`` are skipped while this worker has open leases.
        """
        for number, entry in self._returns.candidates():
            if entry.avoid == self._peers.me or entry.last:
                waiting = self._clock() - self._first_seen.setdefault(number, self._clock())
                if (
                    not idle
                    or (entry.last and self._leases)
                    or (
                        entry.avoid == self._peers.me
                        and self._peers.living
                        and waiting < self._patience
                    )
                ):
                    continue
            self._peers.say_busy()  # before it can be seen as taken
            if not self._returns.take(number, self._peers.me):
                continue
            self._book.poll()
            left = tuple(place for place in entry.places if not self._settled(place))
            if left:
                self._fresh.append(self._of(left))
                lease = self._lease(left, entry.fence, entry.tries, returned=True)
                self._say_held()
                return lease
        return None

    def _take_last(self) -> tuple[Lease | None, bool]:
        """As ``step``, once the plan is used up.

        The order of the reads matters. A worker that moves questions from one place to another is
        marked busy from before it takes them until after they can be seen in the new place. So
        read the returned chunks, then who is busy, then the returned chunks again. If there is
        none, no worker is busy and none was added, then no question is on its way and the journal
        shows what is left.
        """
        returned = self._returns.count()
        if lease := self._take_returned(idle=True):
            return lease, False
        if self._store.get("over") is not None:
            self._peers.say("")
            return None, True
        if self._enter(self._round + 1):
            return None, False
        waiting = self._returns.left()
        self._rest()
        self._look()
        if (
            self._peers.anybody_busy()
            or waiting
            or self._returns.left()
            or self._returns.count() != returned
        ):
            return None, False
        if not self._peers.elected(f"reader/{self._round}"):
            return None, False
        self._book.poll()
        if all(self._settled(place) for place in range(len(self._items))):
            self._store.set("over", str(self._peers.me))
            self._peers.say("")
            return None, True
        self._publish(self._round + 1)
        return None, False

    def _rest(self) -> None:
        """Tell the others that this worker holds nothing, if that is so."""
        if self._peers.held and not self._stock:
            self._before_idle()
            self._peers.say("")

    def _of(self, chunk: Chunk) -> tuple[Item, ...]:
        return tuple(self._items[place] for place in chunk)

    def _settled(self, place: int) -> bool:
        return self._book.settled(self._items[place].key)

    def _lease(self, places: Chunk, fence: int, tries: int = 0, returned: bool = False) -> Lease:
        lease = Lease(
            self._of(places),
            fence,
            tries,
            tuple(places),
            tuple(self._fresh),
            returned,
            tuple(self._lost),
        )
        self._fresh, self._lost = [], []
        self._given_back.difference_update(places)
        self._leases.append(lease)
        return lease

    def _with_drawn(self, lease: Lease) -> Lease:
        drawn, self._fresh = (*lease.drawn, *self._fresh), []
        return replace(lease, drawn=drawn)

    def _say_held(self) -> None:
        """Record in the store what other workers take over if this one dies.

        What this worker has answered of it they see in the journal.
        """
        held = [
            [lease.fence, lease.tries, left]
            for lease in self._leases
            if (left := [place for place in lease.places if place not in self._given_back])
        ]
        held += [[self._fence, 0, places] for places in self._stock]
        self._peers.say(json.dumps(held) if held else Peers.BUSY)

    # rounds

    def _join(self) -> None:
        """Enter the launch.

        One worker makes the first plan. The others wait for it for at most ``PATIENCE`` seconds,
        or until that worker dies; then they make a plan, too.
        """
        self._look()
        until = time.monotonic() + PATIENCE
        while not self._enter(0):
            if self._clock() - self._looked > 1.0:
                self._look()
            if self._peers.elected("planner/0") or time.monotonic() > until:
                self._book.poll()
                self._publish(0)
                return
            time.sleep(0.05)

    def _enter(self, number: int) -> bool:
        """Switch to the plan of round ``number`` if it has been published."""
        head = self._store.get(f"plan/{number}")
        if head is None:
            return False
        name, pieces, digest = json.loads(head)
        if digest != self._digest:
            raise EasiError(
                "this worker sees other questions than the one that made the plan",
                hint="the data changed while the run started; start the same command again",
            )
        text = "".join(
            piece or ""
            for piece in self._store.get_all([f"plan/{name}/{place}" for place in range(pieces)])
        )
        size, *pools = json.loads(zlib.decompress(base64.b64decode(text)))
        plan = [in_chunks(pool, size) for pool in pools[:-1]] + [in_chunks(pools[-1], 1)]
        self._order = Schedule(plan, [item.cost for item in self._items])
        self._peers.say_busy()
        self._round, self._exhausted, self._counted = number, False, -COUNTED_FOR
        self._drawn = [0] * len(plan)
        return True

    def _publish(self, number: int) -> None:
        """Offer a plan for round ``number`` and enter it with the plan that won."""
        name = uuid.uuid4().hex
        plan = make_pools(self._groups, self._book, self._chunk)
        flat = [self._chunk, *([place for chunk in pool for place in chunk] for pool in plan)]
        text = base64.b64encode(
            zlib.compress(json.dumps(flat, separators=(",", ":")).encode(), 1)
        ).decode()
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        for place, piece in enumerate(pieces):
            self._store.set(f"plan/{name}/{place}", piece)
        # Create the counters now: several keys are read in one request only if all exist.
        for pool in range(len(plan)):
            self._store.add(f"next/{number}/{pool}", 0)
        self._store.create(f"plan/{number}", json.dumps([name, len(pieces), self._digest]))
        self._enter(number)

    # the other workers

    def _look(self) -> None:
        """Find new workers, bury dead ones and exchange measured times."""
        self._looked = self._clock()
        if self._peers.buried:
            held = [self._of(chunk) for chunk in self._stock]
            self._lost += [item for items in held if items not in self._fresh for item in items]
            # Other workers took everything this one held, also what it had not begun.
            self._stock.clear()
            self._fresh = []
            self._peers.say("")
            self._peers.register(json.dumps(self._pace.own))
        for number in self._peers.dead():
            self._bury(number)  # does nothing if another worker was first
            self._peers.forget(number)
        self._peers.tell(json.dumps(self._pace.own))
        self._pace.set_others(json.loads(text) for text in self._peers.hear())

    def _bury(self, number: int) -> None:
        """Return what a dead worker held; of the workers that notice, exactly one does it."""
        self._peers.say_busy()
        held = self._peers.bury(number)
        if not held:
            return
        self._book.poll()
        for fence, tries, places in json.loads(held):
            left = [place for place in places if not self._settled(place)]
            alone = [place for place in left if self._book.suspect(self._items[place].key)]
            # A question on which a worker hung is tried again at once; one that was open when
            # SOLO_DEATHS workers died is tried at the very end.
            for place in alone:
                deadly = self._book.deaths(self._items[place].key) >= SOLO_DEATHS
                self._returns.put(Return((place,), fence + 1, tries, last=deadly))
            if calm := tuple(place for place in left if place not in alone):
                self._returns.put(Return(calm, fence + 1, tries))
