"""Chunks that somebody could not finish, as one worker sees them in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from .stores import Store


@dataclass(frozen=True)
class Return:
    """``avoid`` is the number of the worker it should not go to, if possible; ``last``: only when nothing else is left."""

    places: tuple[int, ...]
    fence: int
    tries: int = 0
    avoid: int = -1
    last: bool = False


class Returns:
    """Everybody reads all of them, and takes one by being the first to say so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[int, Return] = {}  # given back by somebody, not known to be taken
        self._unread: list[int] = []  # counted, but not yet written down
        self._counted = 0

    def put(self, entry: Return) -> None:
        self._store.set(f"return/{self._store.add('returns', 1) - 1}", json.dumps(asdict(entry)))

    def count(self) -> int:
        """How many there ever were."""
        return self._store.add("returns", 0)

    def candidates(self) -> Iterator[tuple[int, Return]]:
        """Those not known to be taken, in the order they came."""
        self._read()
        yield from list(self._open.items())

    def take(self, number: int, me: int) -> bool:
        """Whether nobody was quicker."""
        del self._open[number]
        return self._store.create(f"taken/{number}", str(me)) == str(me)

    def left(self) -> bool:
        """Whether any is still there for somebody to take."""
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
