"""Returned chunks, which a worker could not finish, as one worker sees them in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from .stores import Store


@dataclass(frozen=True)
class Return:
    """A chunk of questions that a worker could not finish.

    ``avoid`` is the number of the worker that should not get it, if possible. ``last`` marks a
    chunk that is tried only when nothing else is left.
    """

    places: tuple[int, ...]
    fence: int
    tries: int = 0
    avoid: int = -1
    last: bool = False


class Returns:
    """The returned chunks of a launch; all workers read all, and the first to claim one gets it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[int, Return] = {}  # returned, not known to be taken
        self._unread: list[int] = []  # counted, but not yet written down
        self._counted = 0

    def put(self, entry: Return) -> None:
        """Add a returned chunk."""
        self._store.set(f"return/{self._store.add('returns', 1) - 1}", json.dumps(asdict(entry)))

    def count(self) -> int:
        """How many chunks have been returned in this launch."""
        return self._store.add("returns", 0)

    def candidates(self) -> Iterator[tuple[int, Return]]:
        """The chunks not known to be taken, by number and in the order they were returned."""
        self._read()
        yield from list(self._open.items())

    def take(self, number: int, me: int) -> bool:
        """Claim a chunk; whether this worker was the first to do so."""
        del self._open[number]
        return self._store.create(f"taken/{number}", str(me)) == str(me)

    def left(self) -> bool:
        """Whether any chunk is still to be taken."""
        self._read()
        for number in list(self._open):
            if self._store.get(f"taken/{number}") is None:
                return True
            del self._open[number]
        return False

    def _read(self) -> None:
        count = self.count()
        self._unread += range(self._counted, count)
        self._counted = count
        for number in list(self._unread):
            if (text := self._store.get(f"return/{number}")) is not None:
                data = json.loads(text)
                self._open[number] = Return(**{**data, "places": tuple(data["places"])})
                self._unread.remove(number)
