"""A lease of questions, and what a worker may ask of the dispatcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from .journal import Answer, Loaded, Phase
from .work import Chunk, Item


@dataclass(frozen=True)
class Lease:
    """Questions that a worker answers now.

    Attributes:
        number: Grows with each lease of the launch's stage; the fence of its answers.
        places: The questions' positions in the sequence of all questions.
        returned: Whether the questions were given back by another worker or left by a dead one.
        upcoming: Places of the questions that probably follow.
    """

    number: int
    places: Chunk
    returned: bool = False
    upcoming: Chunk = ()


@dataclass(frozen=True)
class RaisedQuestion:
    """A question that raised instead of being answered.

    Attributes:
        place: The question's position in the sequence of all questions.
        reason: "Type: message".
        lacks_memory: Whether the device lacked memory for it.
    """

    place: int
    reason: str
    lacks_memory: bool = False


class DispatcherClient(ABC):
    """The dispatcher, as a worker uses it; a context that ends the worker's membership.

    Attributes:
        over: Whether the last request was told that no question is open.
    """

    over = False

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *exception: object) -> None: ...

    def phase(self, text: str) -> None:
        """Record that the worker begins another phase."""
        self.record(Phase("", 0, text, 0.0))  # the dispatcher knows who it is, and the time

    def loaded(self, made_with: Mapping[str, str]) -> None:
        """Record what the answers are made with."""
        self.record(Loaded(dict(made_with)))

    @abstractmethod
    def record(self, record: Answer | Phase | Loaded) -> None:
        """Have an answer, a phase or what answers are made with journalled."""

    @abstractmethod
    def tell(self, items: Mapping[str, Sequence[Item]], chunk: int, at_once: int) -> None:
        """Say which questions this worker sees, how many per call and how many leases at a time.

        Raises:
            EasiError: The other workers see other questions.
        """

    @abstractmethod
    def ask(self, ahead: bool = False, wait: bool = True) -> Lease | None:
        """The next lease; None if there is none now, or none any more (``over``).

        Raises:
            BrokenWorker: This worker fails where others answer.
            EasiError: The dispatcher is gone, or its journal can take nothing more.
        """

    @abstractmethod
    def finish(self, lease: Lease, raised: Sequence[RaisedQuestion]) -> None:
        """A lease is over; ``raised`` are the questions without an answer."""

    @abstractmethod
    def give_back(self, lease: Lease, reason: str) -> None:
        """Give a lease back whose questions are not at fault."""
