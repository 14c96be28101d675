"""Preparation of the next prompts in a thread while the model answers the current question.

Preparing a prompt means reading pictures and decoding videos.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from .work import Item

Made = TypeVar("Made")


class Prefetcher(Generic[Made]):
    """Prepares prompts ahead of time; at most those of two leases are kept.

    ``make`` runs for one question at a time, never for two at once. Answers must not depend on
    whether a prompt was prepared ahead. Therefore the thread

    * works only on questions of the benchmark that is being answered, because a backend sets up the
      model per benchmark,
    * starts only after one prompt of that benchmark was made in the calling thread without drawing
      random numbers, because the generators are seeded for the question being answered,
    * discards an exception; the prompt is made again in the calling thread, where the exception
      counts for the question itself.

    Attributes:
        used: Prompts that were ready when they were needed.
    """

    def __init__(self, make: Callable[[Item], Made]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, "easi-ahead")
        self._upcoming: Sequence[Item] = ()
        self._made: dict[Item, Future[Made]] = {}
        # benchmark -> whether making its prompts drew random numbers
        self._draws: dict[str, bool] = {}
        self.used = 0

    def prepare(self, asked: Sequence[Item], upcoming: Sequence[Item]) -> None:
        """Announce the next questions.

        Args:
            asked: Questions that ``take`` is about to be called for.
            upcoming: Questions that will probably follow. Their prompts are started by the next
                ``take``.
        """
        self._upcoming = upcoming
        for item in [item for item in self._made if item not in asked and item not in upcoming]:
            self._made.pop(item).cancel()  # another worker got the question

    def take(self, item: Item, make_here: Callable[[], Made] | None = None) -> Made:
        """Return the prompt of a question, prepared or made now.

        Exceptions of ``make`` and ``make_here`` for this question are raised here.

        Args:
            item: The question.
            make_here: Replaces ``make`` if no prompt is ready; gives the same result at less cost.
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
        """One line for the log."""
        drew = [benchmark for benchmark, draws in self._draws.items() if draws]
        return f"{self.used} prompts were ready when they were asked for" + (
            f"; those of {', '.join(drew)} draw random numbers" if drew else ""
        )

    def _watched(self, item: Item, make: Callable[[], Made]) -> Made:
        """Make a prompt and record whether that drew random numbers."""
        before = _generators()
        made = make()
        self._draws[item.benchmark] = (
            self._draws.get(item.benchmark, False) or _generators() != before
        )
        return made


def _generators() -> tuple[object, ...]:
    """The states of the generators that ``seed_everything`` seeds and a prompt could use."""
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
