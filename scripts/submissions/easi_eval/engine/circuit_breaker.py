"""Decide whether a worker is broken, by how other workers fare with its failed questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .work import Item

ENOUGH = 3  # consecutive failures after which a worker pauses
MOST = 64  # upper limit of that number; it doubles each time the questions prove to be at fault
ENOUGH_ALONE = 10  # consecutive failures after which a worker without peers restarts, once


class CircuitBreaker:
    """Counts consecutive failures of a worker; in batches, those of batches without any answer.

    With a lost device or engine every question fails at once: such a worker would empty the queue
    and fail questions that others can answer. Missing pictures fail the same way on every worker.
    So after ``ENOUGH`` consecutive failures a worker pauses until another worker has tried one of
    the failed questions. If that worker answered it, this one is broken; if it failed, too, the
    question is at fault.

    Args:
        outcome: Tells whether a question was answered (True), failed (False) or is open (None).
    """

    def __init__(self, outcome: Callable[[Item], bool | None]) -> None:
        self._outcome = outcome
        self._given_back: list[Item] = []
        self._answers = 0
        self._enough = ENOUGH
        self.streak = 0

    def answered(self) -> None:
        """The worker answered a question; the count starts again."""
        self._answers += 1
        self._enough = ENOUGH
        self._clear()

    def blame_questions(self) -> None:
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
    def is_open(self) -> bool:
        """Whether so many failed questions were given back that the worker should pause."""
        return len(self._given_back) >= self._enough

    def broken(self) -> str:
        """What shows that the worker is broken, or "": another one answered what raised here."""
        if not self.is_open:
            return ""
        outcomes = [(item, self._outcome(item)) for item in self._given_back]
        for item, answered in outcomes:
            if answered:
                return (
                    f"{self.streak} questions in a row raised errors in this worker, and another "
                    f"worker answered one of them: {item.benchmark} {item.id}"
                )
        if any(answered is False for _, answered in outcomes):
            self.blame_questions()
        return ""

    def broken_alone(self, attempt: int) -> str:
        """As ``broken``, for a worker without peers: it answered and then failed many in a row.

        Args:
            attempt: Number of this process among the restarts of the worker, from 1. Only the
                first is restarted.
        """
        if self._answers and attempt == 1 and self.streak >= ENOUGH_ALONE:
            return (
                f"{self.streak} questions in a row raised errors, "
                f"after {self._answers} were answered"
            )
        return ""
