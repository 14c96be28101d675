"""Whether a worker itself is broken: judged by what the others make of the questions that raised here."""

from __future__ import annotations

from collections.abc import Sequence

from .book import Book
from .work import Item

ENOUGH = 3  # questions in a row that raised here make a worker doubt itself
MOST = 64  # ... or so many, after it turned out again and again that the questions were at fault
ENOUGH_ALONE = 10  # ... and where nobody can judge them, start itself anew once


class BrokenWorker(RuntimeError):
    """This process can answer nothing any more; a new one may."""


class Doubt:
    """The questions that raised one after the other in this process; in batches, those of batches of which nothing was answered.

    A lost device or engine raises at once over whatever it is asked: such a worker would empty the queue and fail what
    others can answer. A folder without its pictures does the same to every worker. So a worker over whose questions so many raised
    in a row draws nothing until another worker answered one of them (then it is broken) or failed at one (then they are).
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._given_back: list[Item] = []
        self._answers = 0
        self._enough = ENOUGH
        self.streak = 0

    def answered(self) -> None:
        self._answers += 1
        self._enough = ENOUGH
        self._clear()

    def not_here(self) -> None:
        """A question raised here and elsewhere: it is at fault, and probably those like it."""
        self._enough = min(2 * self._enough, MOST)
        self._clear()

    def raised(self) -> None:
        self.streak += 1

    def gave_back(self, items: Sequence[Item]) -> None:
        """To be tried by others."""
        self._given_back += items

    def _clear(self) -> None:
        self._given_back, self.streak = [], 0

    @property
    def strong(self) -> bool:
        return len(self._given_back) >= self._enough

    def judge(self) -> None:
        """Look what became of the questions elsewhere. Raises BrokenWorker if one was answered."""
        self._book.poll()
        for item in self._given_back:
            found = self._book.get(item.key)
            if found is not None and found.failure is None:
                raise BrokenWorker(
                    f"{self.streak} questions in a row raised here, and others answered {item.benchmark} {item.id} of them"
                )
        if any(self._book.settled(item.key) for item in self._given_back):
            self.not_here()

    def judge_alone(self, attempt: int) -> None:
        """Without others: raises BrokenWorker if the first attempt answered before, and many questions raised since."""
        if self._answers and attempt == 1 and self.streak >= ENOUGH_ALONE:
            raise BrokenWorker(
                f"{self.streak} questions in a row raised, after {self._answers} were answered"
            )
