"""Who answers what: one shared queue without a master, on a key-value store that all workers of a launch reach.

How it works. Every worker can compute the plan (chunks of questions in pools, one for each benchmark); the first to
publish it wins and all use that one. A counter for each pool hands the chunks out (``serving.py`` says from which). Each
worker keeps a record of what it holds; whoever finds the record of a dead one *buries* it: the questions it had not
answered go to a list of returned chunks, which is served before the plan. Once nothing is left to take and nobody holds
anything, the journal is asked what is still unanswered (a worker may have died between two steps of this protocol); if
there is something, it becomes the plan of another round. So the store only decides who does what: what has been done is
known from the journal alone, nothing is lost with the store, and an error of the bookkeeping can cost a repetition but
never an answer.
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

from ..errors import EasiError
from .book import SOLO_DEATHS, Book
from .owners import Owner
from .peers import SILENT_AFTER, Peers
from .returns import Return, Returns
from .serving import Choice, Chunk, Order, Pace, in_chunks, make_plan
from .stores import Store
from .work import Item

LOOK_EVERY = (
    2.0  # seconds between two looks of a worker at the others; more if there are many to look
)
LOOKS = 4  # looks per second of all workers together
PATIENCE = 5.0  # seconds that an idle worker leaves what it failed at to the others
COUNTED_FOR = 0.2  # seconds that a worker relies on what it knows of the counters
_PIECE = 4 << 20  # TCPStore refuses values above 8 MiB


@dataclass(frozen=True)
class Lease:
    """Questions that are this worker's to answer. ``tries``: how often they already raised somewhere.

    ``fence`` is larger than that of every earlier lease of the same question in this launch. ``drawn`` are the leases'
    worth of questions that became this worker's with this one, in the order it will get them: these and perhaps some
    later ones, or none if these came with an earlier lease. ``lost`` came with an earlier lease, were not begun, and
    have been given to others.
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

    ``items`` must be the same, in the same order, for all workers (EasiError if not). ``book`` is brought up to date
    here whenever it matters. ``before_idle`` is called before the others are told that this worker holds nothing. With
    ``ahead`` it holds one chunk more than it answers, so that ``upcoming`` can be prepared. Up to ``at_once`` leases may be open.
    """

    def __init__(
        self,
        store: Store,
        worker: str,
        items: Mapping[str, Sequence[Item]],
        book: Book,
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
        self._begun: dict[Chunk, float] = {}  # of each open lease: when
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
        self._order = Order([], [])
        self._drawn: list[int] = []  # of each pool, as last seen ...
        self._counted = -COUNTED_FOR  # ... at this time
        self._returns = Returns(store)
        self._peers = Peers(
            store, worker, owner or Owner.this(), json.dumps(self._pace.own), silent_after, clock
        )
        self._join()

    def _remembered(self) -> Pace:
        """What the journals tell of earlier launches."""
        pace = Pace(len(self._groups))
        for key, group in self._groups.items() if len(self._book) else ():
            known = [
                (item, answer)
                for item in group
                if (answer := self._book.get(item.key)) and answer.failure is None
            ]
            if known:
                pace.remember(
                    self._number[key],
                    sum(answer.seconds for _, answer in known),
                    sum(item.cost for item, _ in known),
                    len(known),
                )
        return pace

    # what a worker calls

    def next(self) -> Lease | None:
        """The next questions for this worker; None when every question of the launch has an outcome.
        Waits while others hold questions that may come back. Call ``done`` for each lease first.
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
        """``next`` without the waiting: (a lease, False), (None, False) for "ask again", or (None, True) for "all is done".
        Not ``planned``: only what others gave back.
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
        """The questions of this worker's next lease, as far as it is known; it may still get others first."""
        return self._of(self._stock[0]) if self._stock else ()

    def done(self, lease: Lease) -> None:
        """Everything of ``lease`` has been journalled or given back."""
        self._leases.remove(
            lease
        )  # the store learns it when something else is drawn, or when there is nothing
        seconds = (self._clock() - self._begun.pop(lease.places)) / self._at_once
        self._pace.add(
            self._number[lease.items[0].benchmark],
            seconds,
            sum(item.cost for item in lease.items),
            len(lease.items),
        )

    def give_back(self, lease: Lease, items: Sequence[Item]) -> None:
        """These raised here; they will be tried once more, each alone, by another worker if there is one."""
        for place, item in zip(lease.places, lease.items, strict=True):
            if item in items:
                self._returns.put(
                    Return((place,), lease.fence + 1, lease.tries + 1, avoid=self._peers.me)
                )
                self._given_back.add(place)
        self._say_held()  # whoever buries this worker must not give them out once more

    def close(self) -> None:
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
        """Whether to take one more ahead leaves enough for everybody else."""
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
        """A returned chunk that nobody took. Without ``idle`` leave what this worker failed at, and suspects, for later;
        suspects in any case until nothing else is open here.
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
        """Nothing is planned any more: as ``step``.

        The order of the reads matters. Whoever moves questions from one place to another is busy from before it takes
        them until after they can be seen in the new place. So look at the returned chunks, then at who is busy, then
        at the returned chunks again: if nothing is there, nobody is busy and nothing came, no question is on its way,
        and the journal tells what is left.
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
        """Tell the others what to take over if this worker dies. What is answered of it they will see in the journal."""
        held = [
            [lease.fence, lease.tries, left]
            for lease in self._leases
            if (left := [place for place in lease.places if place not in self._given_back])
        ]
        held += [[self._fence, 0, places] for places in self._stock]
        self._peers.say(json.dumps(held) if held else Peers.BUSY)

    # rounds

    def _join(self) -> None:
        """Enter the launch. One worker makes the first plan; the others wait for it, as long as that worker lives and is no slower than expected."""
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
        self._order = Order(plan, [item.cost for item in self._items])
        self._peers.say_busy()
        self._round, self._exhausted, self._counted = number, False, -COUNTED_FOR
        self._drawn = [0] * len(plan)
        return True

    def _publish(self, number: int) -> None:
        """Offer a plan for round ``number`` and enter it with the plan that won."""
        name = uuid.uuid4().hex
        plan = make_plan(self._groups, self._book, self._chunk)
        flat = [self._chunk, *([place for chunk in pool for place in chunk] for pool in plan)]
        text = base64.b64encode(
            zlib.compress(json.dumps(flat, separators=(",", ":")).encode(), 1)
        ).decode()
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        for place, piece in enumerate(pieces):
            self._store.set(f"plan/{name}/{place}", piece)
        for pool in range(len(plan)):
            self._store.add(
                f"next/{number}/{pool}", 0
            )  # several counters are read at once if all are there
        self._store.create(f"plan/{number}", json.dumps([name, len(pieces), self._digest]))
        self._enter(number)

    # the other workers

    def _look(self) -> None:
        """Learn of new workers, bury the dead, exchange measured times."""
        self._looked = self._clock()
        if self._peers.buried:
            held = [self._of(chunk) for chunk in self._stock]
            self._lost += [item for items in held if items not in self._fresh for item in items]
            self._stock.clear()  # what we held was given away, what we had not begun too
            self._fresh = []
            self._peers.say("")
            self._peers.register(json.dumps(self._pace.own))
        for number in self._peers.dead():
            self._bury(number)  # or see that somebody did
            self._peers.forget(number)
        self._peers.tell(json.dumps(self._pace.own))
        self._pace.hear(json.loads(text) for text in self._peers.hear())

    def _bury(self, number: int) -> None:
        """Take over what a dead worker held; exactly one of those who notice does it."""
        self._peers.say_busy()
        held = self._peers.bury(number)
        if not held:
            return
        self._book.poll()
        for fence, tries, places in json.loads(held):
            left = [place for place in places if not self._settled(place)]
            alone = [place for place in left if self._book.suspect(self._items[place].key)]
            for place in alone:  # one over which a worker hung is tried again at once, one that killed twice at the very end
                deadly = self._book.deaths(self._items[place].key) >= SOLO_DEATHS
                self._returns.put(Return((place,), fence + 1, tries, last=deadly))
            if calm := tuple(place for place in left if place not in alone):
                self._returns.put(Return(calm, fence + 1, tries))
