"""Makes the next question's prompt (pictures read, videos decoded) in a thread while the model answers the current one."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from .work import Item

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """``make`` is called for one question at a time, never for two at once; what two leases need is the most that is kept.

    Answers must not depend on it. So the thread works only on questions of the benchmark that is being answered (models
    are set up for a benchmark), only once a question of it was made here without drawing a random number (generators
    belong to the question being answered), and what raises there is made again here, where that is the question's own.
    """

    def __init__(self, make: Callable[[Item], Made]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, "easi-ahead")
        self._upcoming: Sequence[Item] = ()
        self._made: dict[Item, Future[Made]] = {}
        self._draws: dict[
            str, bool
        ] = {}  # benchmark -> whether making its prompts drew random numbers
        self.used = 0

    def prepare(self, asked: Sequence[Item], upcoming: Sequence[Item]) -> None:
        """``asked`` are about to be taken, ``upcoming`` probably after them; those are begun when the first is taken."""
        self._upcoming = upcoming
        for item in [item for item in self._made if item not in asked and item not in upcoming]:
            self._made.pop(item).cancel()  # somebody else got it

    def take(self, item: Item, make_here: Callable[[], Made] | None = None) -> Made:
        """What ``make`` gives for this question; ``make_here``, if it is given, does the same at less cost if nothing is
        ready. Raises what they raise.
        """
        future = self._made.pop(item, None)
        if future is not None and future.exception() is None:
            made = future.result()
            self.used += 1
        else:
            wait(self._made.values())
            made = self._watched(item, make_here or (lambda: self._make(item)))
        if not self._draws.get(item.benchmark, True):
            new = [
                other
                for other in self._upcoming
                if other.benchmark == item.benchmark and other not in self._made
            ]
            self._made |= {other: self._thread.submit(self._make, other) for other in new}
        self._upcoming = ()
        return made

    def summary(self) -> str:
        """For the log."""
        drew = [benchmark for benchmark, draws in self._draws.items() if draws]
        return f"{self.used} prompts were ready when they were asked for" + (
            f"; those of {', '.join(drew)} draw random numbers" if drew else ""
        )

    def _watched(self, item: Item, make: Callable[[], Made]) -> Made:
        before = _generators()
        made = make()
        self._draws[item.benchmark] = (
            self._draws.get(item.benchmark, False) or _generators() != before
        )
        return made


def _generators() -> tuple[object, ...]:
    """The state of every generator that ``seed_everything`` seeds and that a prompt might draw from."""
    states: list[object] = [random.getstate()]
    if (numpy := sys.modules.get("numpy")) is not None:
        states.append(
            [
                part.tobytes() if hasattr(part, "tobytes") else part
                for part in numpy.random.get_state()
            ]
        )
    if (torch := sys.modules.get("torch")) is not None:
        states.append(torch.default_generator.get_state().numpy().tobytes())
    return tuple(states)
