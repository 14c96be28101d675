"""Decide whether a worker is broken, by how other workers fare with its failed questions."""

from __future__ import annotations

from collections.abc import Sequence

from .journal_state import JournalState
from .work import Item

ENOUGH = 3  # consecutive failures after which a worker pauses
MOST = 64  # upper limit of that number; it doubles each time the questions prove to be at fault
ENOUGH_ALONE = 10  # consecutive failures after which a worker without peers restarts, once


class BrokenWorker(RuntimeError):
    """This process can no longer answer anything; a new process may."""


class Doubt:
    """Counts consecutive failures of this process; in batches, those of batches without any answer.

    With a lost device or engine every question fails at once: such a worker would empty the queue
    and fail questions that others can answer. Missing pictures fail the same way on every worker.
    So after ``ENOUGH`` consecutive failures a worker pauses until another worker has tried one of
    the failed questions. If that worker answered it, this one is broken; if it failed, too, the
    question is at fault.
    """

    def __init__(self, book: JournalState) -> None:
        self._book = book
        self._given_back: list[Item] = []
        self._answers = 0
        self._enough = ENOUGH
        self.streak = 0

    def answered(self) -> None:
        """A question was answered here; the count starts again."""
        self._answers += 1
        self._enough = ENOUGH
        self._clear()

    def not_here(self) -> None:
        """A question raised here and elsewhere, so it is at fault, and probably others like it."""
        self._enough = min(2 * self._enough, MOST)
        self._clear()

    def raised(self) -> None:
        """A question raised here."""
        self.streak += 1

    def gave_back(self, items: Sequence[Item]) -> None:
        """Note the failed questions that were given back for other workers to try."""
        self._given_back += items

    def _clear(self) -> None:
        self._given_back, self.streak = [], 0

    @property
    def strong(self) -> bool:
        """Whether so many failed questions were given back that the worker should pause."""
        return len(self._given_back) >= self._enough

    def judge(self) -> None:
        """Check how the failed questions fared elsewhere; BrokenWorker if one was answered."""
        self._book.poll()
        for item in self._given_back:
            found = self._book.get(item.key)
            if found is not None and found.failure is None:
                raise BrokenWorker(
                    f"{self.streak} questions in a row raised here, and others answered "
                    f"{item.benchmark} {item.id} of them"
                )
        if any(self._book.settled(item.key) for item in self._given_back):
            self.not_here()

    def judge_alone(self, attempt: int) -> None:
        """Judge without other workers.

        Args:
            attempt: Number of this process among the restarts of the worker, from 1.

        Raises:
            BrokenWorker: The first attempt answered something and then failed ``ENOUGH_ALONE``
                questions in a row.
        """
        if self._answers and attempt == 1 and self.streak >= ENOUGH_ALONE:
            raise BrokenWorker(
                f"{self.streak} questions in a row raised, after {self._answers} were answered"
            )
