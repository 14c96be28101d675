"""The other workers of a launch, as one worker sees them in the store.

That is who they are, what they hold and which have died.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict

from .owners import Owner
from .stores import Store

BEAT_EVERY = 5.0  # seconds between two signs of life
SILENT_AFTER = 90.0  # seconds without a sign of life after which a remote worker counts as dead


class Peers:
    """This worker's entry in the store, and what it knows of the other workers.

    What a worker holds is a text: "" if it holds nothing and is taking nothing, ``BUSY`` if it
    holds nothing yet. ``told`` is the text in which a worker shares its measured times. ``clock``
    gives seconds. A worker is "buried" once another worker has taken over what it held.
    """

    BUSY = "busy"

    def __init__(
        self,
        store: Store,
        worker: str,
        owner: Owner,
        told: str,
        silent_after: float,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._worker, self._owner, self._clock = store, worker, owner, clock
        self._silent_after = silent_after
        self.me = -1
        self.held = ""
        self.living: dict[int, Owner] = {}  # not buried, this one not among them
        self.known = 0  # owner numbers below are in living, in _nameless or done with
        # Numbers given out to workers that have not written their entry yet, or died before that.
        self._nameless: list[int] = []
        # Workers on other machines: the last sign of life and when it was first seen here.
        self._beats: dict[int, tuple[str | None, float]] = {}
        self.register(told)
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="easi-queue-beat", daemon=True).start()

    def register(self, told: str) -> None:
        """Enter the launch, or enter it again after other workers took this one for dead."""
        self.me = self._store.add("owners", 1) - 1
        self.say(self.BUSY)
        self.tell(told)
        self._store.set(f"beat/{self.me}", "0")
        self._store.set(
            f"owner/{self.me}", json.dumps({**asdict(self._owner), "worker": self._worker})
        )

    def close(self) -> None:
        """Stop the signs of life."""
        self._closed.set()

    def say(self, held: str) -> None:
        """Record what this worker holds."""
        self.held = held
        self._store.set(f"held/{self.me}", held)

    def say_busy(self) -> None:
        """Record that this worker is about to take something, if it holds nothing."""
        if not self.held:
            self.say(self.BUSY)

    def tell(self, told: str) -> None:
        """Share the times that this worker measured."""
        self._store.set(f"told/{self.me}", told)

    @property
    def buried(self) -> bool:
        """Whether another worker took this one for dead and returned what it held."""
        return self._store.get(f"buried/{self.me}") is not None

    def anybody_busy(self) -> bool:
        """Whether any other living worker holds something or is about to."""
        return any(self._store.get_all([f"held/{number}" for number in self.living]))

    def hear(self) -> list[str]:
        """The texts that the other living workers shared with ``tell``."""
        return [
            text
            for text in self._store.get_all([f"told/{number}" for number in self.living])
            if text
        ]

    def dead(self) -> list[int]:
        """Find new workers and return the dead ones, which may not have been buried yet.

        They stay in ``living`` until ``forget`` is called.
        """
        count = self._store.add("owners", 0)
        self._nameless += range(self.known, count)
        self.known = count
        asked, self._nameless = self._nameless, []
        for number, text in zip(
            asked, self._store.get_all([f"owner/{number}" for number in asked]), strict=True
        ):
            if text is None:  # still registering; it looks for work only after that
                self._nameless.append(number)
            elif number != self.me:
                data = json.loads(text)
                self.living[number] = Owner(data["host"], data["pid"], data["started"])
        here = {owner: owner.alive_here() for owner in set(self.living.values())}
        return [
            number for number, owner in self.living.items() if not self._lives(number, here[owner])
        ]

    def forget(self, number: int) -> None:
        """Remove a dead worker from ``living``."""
        del self.living[number]

    def bury(self, number: int) -> str:
        """Return what a dead worker held to exactly one of the callers, and "" to the others."""
        if self._store.create(f"buried/{number}", str(self.me)) != str(self.me):
            return ""
        held = self._store.get(f"held/{number}")
        return "" if held in (None, self.BUSY) else held

    def elected(self, what: str) -> bool:
        """Whether this worker was chosen to do ``what``; if it dies, the next one is chosen."""
        for place in range(self.known + 1):
            winner = int(self._store.create(f"{what}/{place}", str(self.me)))
            if winner == self.me:
                return True
            if winner in self.living:
                return False
        return True

    def _lives(self, number: int, here: bool | None) -> bool:
        """Whether a worker is alive; ``here`` is the result of its owner's ``alive_here``."""
        if here is not None:
            return here
        # Clocks of other machines may differ, so measure here how long the beat has not changed.
        beat, now = self._store.get(f"beat/{number}"), self._clock()
        known = self._beats.get(number)
        if known is None or known[0] != beat:
            self._beats[number] = beat, now
            return True
        return now - known[1] < self._silent_after

    def _beat(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_EVERY):
            count += 1
            try:
                self._store.set(f"beat/{self.me}", str(count))
            except RuntimeError as error:  # the store is gone; the worker's next step says so
                print(f"no sign of life could be sent: {error}", file=sys.stderr)
                return
