"""Who answers what: one shared queue without a master, on a key-value store that all workers of a launch reach.

How it works. Every worker can compute the plan (chunks of questions in serving order); the first to publish it wins
and all use that one. A counter hands the chunks out. Each worker keeps a record of what it holds; whoever finds the
record of a dead one *buries* it: the questions it had not answered go to a list of returned chunks, which is served
before the plan. Once nothing is left to take and nobody holds anything, the journal is asked what is still unanswered
(a worker may have died between two steps of this protocol); if there is something, it becomes the plan of another
round. So the store only decides who does what: what has been done is known from the journal alone, nothing is lost
with the store, and an error of the bookkeeping can cost a repetition but never an answer.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import socket
import sys
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import EasiError
from .journal import Book
from .work import Item

if TYPE_CHECKING:
    from torch.distributed import TCPStore

SOLO_DEATHS = 2          # a question in flight in so many deaths is asked last and alone
LOOK_EVERY = 2.0         # seconds between two looks of a worker at the others; more if there are many to look
LOOKS = 4                # looks per second of all workers together
BEAT_EVERY = 5.0         # seconds between two signs of life
SILENT_AFTER = 90.0      # seconds without one until a worker of another machine counts as dead
PATIENCE = 5.0           # seconds that an idle worker leaves what it failed at to the others
DRAW_FOR = 0.1           # seconds of work drawn at once where questions are quicker than that
MOST_CHUNKS = 64         # ... but never more chunks
_PIECE = 4 << 20         # TCPStore refuses values above 8 MiB
_BUSY = "busy"           # holds nothing yet, but may be about to take something


# --- stores -----------------------------------------------------------------------------------------------------


class Store(Protocol):
    """The five operations the queue needs, each atomic and never waiting for a key to appear."""

    def add(self, key: str, amount: int) -> int: ...

    def set(self, key: str, value: str) -> None: ...

    def create(self, key: str, value: str) -> str:
        """Set a key that is not there yet; returns the value that is there now. ``value`` must not be empty."""
        ...

    def get(self, key: str) -> str | None: ...

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        """Several at once; cheapest if all exist."""
        ...


class LocalStore:
    """The store of a worker that is alone, and of threads in one process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, key: str, amount: int) -> int:
        with self._lock:
            number = int(self._values.get(key, "0")) + amount
            self._values[key] = str(number)
            return number

    def set(self, key: str, value: str) -> None:
        with self._lock:
            self._values[key] = value

    def create(self, key: str, value: str) -> str:
        with self._lock:
            return self._values.setdefault(key, value)

    def get(self, key: str) -> str | None:
        with self._lock:
            return self._values.get(key)

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        with self._lock:
            return [self._values.get(key) for key in keys]


class TorchStore:
    """A TCPStore; every key carries ``prefix``, so that launches that share a store do not meet."""

    def __init__(self, store: TCPStore, prefix: str = "easi") -> None:
        self._store, self._prefix = store, prefix

    @property
    def address(self) -> str:
        return f"{self._store.host}:{self._store.port}"

    def with_prefix(self, prefix: str) -> TorchStore:
        return TorchStore(self._store, prefix)

    def add(self, key: str, amount: int) -> int:
        return self._store.add(self._name(key), amount)

    def set(self, key: str, value: str) -> None:
        self._store.set(self._name(key), value)

    def create(self, key: str, value: str) -> str:
        return self._store.compare_set(self._name(key), "", value).decode()

    def get(self, key: str) -> str | None:
        # get() alone would block until the key appears
        return self._store.get(self._name(key)).decode() if self._store.check([self._name(key)]) else None

    def get_all(self, keys: Sequence[str]) -> list[str | None]:
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        if self._store.check(names):
            return [value.decode() for value in self._store.multi_get(names)]
        return [self.get(key) for key in keys]

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}"


def host_store(port: int = 0, host: str = "127.0.0.1") -> TorchStore:
    """Serve a store from this process; it ends with it."""
    from torch.distributed import TCPStore

    return TorchStore(TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60)))


def connect(address: str, timeout: float = 60.0) -> TorchStore:
    """A client of the store at ``host:port``. Raises EasiError if nothing answers there."""
    from torch.distributed import DistError, TCPStore

    host, _, port = address.rpartition(":")
    try:
        return TorchStore(TCPStore(host.strip("[]"), int(port), is_master=False, wait_for_workers=False,
                                   timeout=timedelta(seconds=timeout)))
    except (DistError, ValueError, RuntimeError) as error:
        raise EasiError(f"no work queue at {address}", hint="the launcher ended; start the same command again") from error


# --- owners -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """A worker process that no other process, now or later, can be taken for."""

    host: str
    pid: int
    started: int              # clock ticks after boot; a reused pid has another

    @classmethod
    def this(cls) -> Owner:
        pid = os.getpid()
        return cls(_host(), pid, _started(pid) or 0)

    def alive_here(self) -> bool | None:
        """Whether the process lives; None if it belongs to another machine or container and cannot be seen."""
        if self.host != _host() or self.started == 0:
            return None
        return _started(self.pid) == self.started


@functools.cache
def _host() -> str:
    """This machine since its last boot and, as pids mean nothing outside it, this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()}/{uuid.getnode():x}"


def _started(pid: int) -> int | None:
    """Start time of a living process, None for one that is gone or only waits to be reaped."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(rest[18])


# --- the plan ---------------------------------------------------------------------------------------------------


Chunk = tuple[int, ...]        # places in the list of all items


def make_plan(items: Mapping[str, Sequence[Item]], book: Book, chunk: int) -> list[Chunk]:
    """Unanswered questions: benchmarks in the given order, the most expensive first inside each, in chunks of ``chunk``.
    Questions that were in flight when workers died repeatedly come last, each alone."""
    plan: list[Chunk] = []
    suspects: list[Chunk] = []
    first = 0
    for group in items.values():
        left = [(-item.cost, place) for place, item in enumerate(group, first) if item.key not in book]
        first += len(group)
        calm: list[int] = []
        for _, place in sorted(left):
            if book.deaths(group[place - first].key) >= SOLO_DEATHS:
                suspects.append((place,))
            else:
                calm.append(place)
        plan += [tuple(calm[at:at + chunk]) for at in range(0, len(calm), chunk)]
    return plan + suspects


@dataclass(frozen=True)
class Lease:
    """Questions that are this worker's to answer. ``tries``: how often they already raised somewhere.
    ``fence`` is larger than that of every earlier lease of the same question in this launch."""

    items: tuple[Item, ...]
    fence: int
    tries: int = 0
    places: Chunk = ()


@dataclass(frozen=True)
class _Return:
    """A chunk that somebody could not finish. ``avoid`` is the owner number it should not go to, if possible."""

    places: tuple[int, ...]
    fence: int
    tries: int = 0
    avoid: int = -1
    last: bool = False


class Queue:
    """One worker's view of the queue; not to be shared between threads.

    ``items`` must be the same, in the same order, for all workers (EasiError if not). ``book`` is brought up to date
    here whenever it matters. ``before_idle`` is called before the others are told that this worker holds nothing.
    """

    def __init__(self, store: Store, worker: str, items: Mapping[str, Sequence[Item]], book: Book, chunk: int = 1,
                 owner: Owner | None = None, before_idle: Callable[[], None] = lambda: None,
                 look_every: float = LOOK_EVERY, silent_after: float = SILENT_AFTER, patience: float = PATIENCE) -> None:
        if chunk < 1:
            raise ValueError("a chunk holds at least one item")
        self._store, self._book, self._chunk = store, book, chunk
        self._groups = {key: tuple(sequence) for key, sequence in items.items()}
        self._items = tuple(item for sequence in self._groups.values() for item in sequence)
        self._before_idle = before_idle
        self._look_every, self._silent_after, self._patience = look_every, silent_after, patience
        self._owner = owner or Owner.this()
        self._leases: list[Lease] = []
        self._stock: deque[Chunk] = deque()            # drawn from the plan, not yet leased
        self._drawn = 0                                # chunks of the plan that had been drawn when this worker last looked
        self._pace, self._since = DRAW_FOR, 0.0        # seconds per lease, smoothed; when the last one began
        self._held = ""
        self._worker = worker
        self._others: dict[int, Owner] = {}            # not buried, this one not among them
        self._known = 0                                # owner numbers below are in _others, in _nameless or done with
        self._nameless: list[int] = []                 # counted, but not yet written down (or dead before they could)
        self._beats: dict[int, tuple[str | None, float]] = {}     # other machines: last sign of life, when first seen
        self._first_seen: dict[int, float] = {}        # returned chunk this worker should avoid -> when
        self._returns: dict[int, _Return] = {}         # given back by somebody, not known to be taken
        self._unread: list[int] = []                   # counted, but not yet written down
        self._counted = 0
        self._looked = 0.0
        self._digest = hashlib.sha256(json.dumps([item.key for item in self._items]).encode()).hexdigest()
        self._round, self._exhausted = -1, False
        self._plan: list[Chunk] = []
        self._register()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="easi-queue-beat", daemon=True).start()
        if not self._enter(0):
            self._book.poll()
            self._publish(0)

    def _register(self) -> None:
        self._me = self._store.add("owners", 1) - 1
        self._say(_BUSY)
        self._store.set(f"beat/{self._me}", "0")
        self._store.set(f"owner/{self._me}", json.dumps({**asdict(self._owner), "worker": self._worker}))

    # what a worker calls

    def next(self) -> Lease | None:
        """The next questions for this worker; None when every question of the launch has an outcome.
        Waits while others hold questions that may come back. Call ``done`` for each lease first."""
        if self._leases:
            raise ValueError("a lease is still open")
        pause = 0.01
        while True:
            if time.monotonic() - self._looked > max(self._look_every, len(self._others) / LOOKS):
                self._look()
                if lease := self._take_returned(idle=False):
                    self._since = time.monotonic()
                    return lease
            lease, over = self._take_planned(), False
            if lease is None:
                lease, over = self._take_last()
            if lease or over:
                self._since = time.monotonic()
                return lease
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def done(self, lease: Lease) -> None:
        """Everything of ``lease`` has been journalled or given back."""
        self._leases.remove(lease)         # the store learns it when something else is drawn, or when there is nothing
        self._pace += 0.2 * (time.monotonic() - self._since - self._pace)

    def give_back(self, lease: Lease, items: Sequence[Item]) -> None:
        """These raised here; they will be tried once more, each alone, by another worker if there is one."""
        for place, item in zip(lease.places, lease.items, strict=True):
            if item in items:
                self._return(_Return((place,), lease.fence + 1, lease.tries + 1, avoid=self._me))

    def close(self) -> None:
        self._closed.set()

    # taking

    def _take_planned(self) -> Lease | None:
        if not self._stock and not self._exhausted:
            several = self._several()
            number = self._store.add(f"next/{self._round}", several) - several
            self._stock.extend(self._plan[number:number + several])
            self._drawn = number + several
            self._exhausted = self._drawn >= len(self._plan)
            self._say_held()
        if not self._stock:
            return None
        return self._lease(self._stock.popleft(), self._fence)

    def _several(self) -> int:
        """How many chunks to draw: one, unless they are so quick that asking for each would cost; few towards the end."""
        share = (len(self._plan) - self._drawn) // (4 * (len(self._others) + 1))
        return max(min(int(DRAW_FOR / max(self._pace, 1e-6)), share, MOST_CHUNKS), 1)

    @property
    def _fence(self) -> int:
        return 1000 * self._round + 1

    def _take_returned(self, idle: bool) -> Lease | None:
        """A returned chunk that nobody took. Without ``idle`` leave what this worker failed at, and suspects, for later."""
        self._read_returns()
        for number, entry in list(self._returns.items()):
            if entry.avoid == self._me or entry.last:
                waiting = time.monotonic() - self._first_seen.setdefault(number, time.monotonic())
                if not idle or (entry.avoid == self._me and self._others and waiting < self._patience):
                    continue
            self._say_busy()               # before it can be seen as taken
            del self._returns[number]
            if self._store.create(f"taken/{number}", str(self._me)) != str(self._me):
                continue
            self._book.poll()
            left = tuple(place for place in entry.places if self._items[place].key not in self._book)
            if left:
                lease = self._lease(left, entry.fence, entry.tries)
                self._say_held()
                return lease
        return None

    def _take_last(self) -> tuple[Lease | None, bool]:
        """Nothing is planned any more: (a lease, False), (None, False) for "wait", or (None, True) for "all is done".

        The order of the reads matters. Whoever moves questions from one place to another is busy from before it takes
        them until after they can be seen in the new place. So look at the returned chunks, then at who is busy, then
        at the returned chunks again: if nothing is there, nobody is busy and nothing came, no question is on its way,
        and the journal tells what is left.
        """
        returned = self._store.add("returns", 0)
        if lease := self._take_returned(idle=True):
            return lease, False
        if self._enter(self._round + 1):
            return None, False
        waiting = self._returned_left()
        self._before_idle()
        self._say("")
        self._look()
        busy = any(self._store.get_all([f"held/{number}" for number in self._others]))
        if busy or waiting or self._returned_left() or self._store.add("returns", 0) != returned:
            return None, False
        if self._store.get("over") is not None:
            self._say("")
            return None, True
        if not self._elected():
            return None, False
        self._book.poll()
        if all(item.key in self._book for item in self._items):
            self._store.set("over", str(self._me))
            self._say("")
            return None, True
        self._publish(self._round + 1)
        return None, False

    def _elected(self) -> bool:
        """Whether this worker is the one that reads the journals at the end of the round; the next one if that one dies."""
        for place in range(self._known + 1):
            winner = int(self._store.create(f"reader/{self._round}/{place}", str(self._me)))
            if winner == self._me:
                return True
            if winner in self._others:
                return False
        return True

    def _lease(self, places: Chunk, fence: int, tries: int = 0) -> Lease:
        lease = Lease(tuple(self._items[place] for place in places), fence, tries, tuple(places))
        self._leases.append(lease)
        return lease

    def _say_held(self) -> None:
        """Tell the others what to take over if this worker dies. What is answered of it they will see in the journal."""
        held = [[lease.fence, lease.tries, lease.places] for lease in self._leases]
        held += [[self._fence, 0, places] for places in self._stock]
        self._say(json.dumps(held) if held else _BUSY)

    def _say_busy(self) -> None:
        if not self._held:
            self._say(_BUSY)

    def _say(self, held: str) -> None:
        self._held = held
        self._store.set(f"held/{self._me}", held)

    # rounds

    def _enter(self, number: int) -> bool:
        """Switch to the plan of round ``number`` if it has been published."""
        head = self._store.get(f"plan/{number}")
        if head is None:
            return False
        name, pieces, digest = json.loads(head)
        if digest != self._digest:
            raise EasiError("this worker sees other questions than the one that made the plan",
                            hint="the data changed while the run started; start the same command again")
        text = "".join(piece or "" for piece in self._store.get_all([f"plan/{name}/{place}" for place in range(pieces)]))
        self._plan = [tuple(chunk) for chunk in json.loads(zlib.decompress(base64.b85decode(text)))]
        self._say_busy()
        self._round, self._exhausted, self._drawn = number, False, 0
        return True

    def _publish(self, number: int) -> None:
        """Offer a plan for round ``number`` and enter it with the plan that won."""
        name = uuid.uuid4().hex
        plan = make_plan(self._groups, self._book, self._chunk)
        text = base64.b85encode(zlib.compress(json.dumps(plan, separators=(",", ":")).encode(), 1)).decode()
        pieces = [text[at:at + _PIECE] for at in range(0, len(text), _PIECE)]
        for place, piece in enumerate(pieces):
            self._store.set(f"plan/{name}/{place}", piece)
        self._store.create(f"plan/{number}", json.dumps([name, len(pieces), self._digest]))
        self._enter(number)

    # chunks given back

    def _return(self, entry: _Return) -> None:
        self._store.set(f"return/{self._store.add('returns', 1) - 1}", json.dumps(asdict(entry)))

    def _read_returns(self) -> None:
        count = self._store.add("returns", 0)
        self._unread += range(self._counted, count)
        self._counted = count
        for number in list(self._unread):
            if (text := self._store.get(f"return/{number}")) is not None:
                data = json.loads(text)
                self._returns[number] = _Return(**{**data, "places": tuple(data["places"])})
                self._unread.remove(number)

    def _returned_left(self) -> bool:
        """Whether any returned chunk is still there for somebody to take."""
        self._read_returns()
        for number in list(self._returns):
            if self._store.get(f"taken/{number}") is None:
                return True
            del self._returns[number]
        return False

    # the other workers

    def _look(self) -> None:
        """Learn of new workers and bury the dead."""
        self._looked = time.monotonic()
        if self._store.get(f"buried/{self._me}") is not None:
            self._say("")
            self._register()               # the others took us for dead and what we held was given away,
            self._stock.clear()            # what we had not begun too
        count = self._store.add("owners", 0)
        self._nameless += range(self._known, count)
        self._known = count
        asked, self._nameless = self._nameless, []
        for number, text in zip(asked, self._store.get_all([f"owner/{number}" for number in asked]), strict=True):
            if text is None:               # it is only registering and will look for work after we did
                self._nameless.append(number)
            elif number != self._me:
                data = json.loads(text)
                self._others[number] = Owner(data["host"], data["pid"], data["started"])
        for number, owner in list(self._others.items()):
            if not self._lives(number, owner):
                self._bury(number)         # or see that somebody did
                del self._others[number]

    def _lives(self, number: int, owner: Owner) -> bool:
        here = owner.alive_here()
        if here is not None:
            return here
        # Another machine's clock says nothing: what counts is how long we have seen no change.
        beat, now = self._store.get(f"beat/{number}"), time.monotonic()
        known = self._beats.get(number)
        if known is None or known[0] != beat:
            self._beats[number] = beat, now
            return True
        return now - known[1] < self._silent_after

    def _bury(self, number: int) -> None:
        """Take over what a dead worker held; exactly one of those who notice does it."""
        self._say_busy()
        if self._store.create(f"buried/{number}", str(self._me)) != str(self._me):
            return
        held = self._store.get(f"held/{number}")
        if held in (None, "", _BUSY):
            return
        self._book.poll()
        for fence, tries, places in json.loads(held):
            left = [place for place in places if self._items[place].key not in self._book]
            suspects = [place for place in left if self._book.deaths(self._items[place].key) >= SOLO_DEATHS]
            for place in suspects:
                self._return(_Return((place,), fence + 1, tries, last=True))
            if calm := tuple(place for place in left if place not in suspects):
                self._return(_Return(calm, fence + 1, tries))

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_EVERY):
            count += 1
            try:
                self._store.set(f"beat/{self._me}", str(count))
            except RuntimeError as error:        # the store is gone; the worker's next step says so
                print(f"no sign of life could be sent: {error}", file=sys.stderr)
                return
