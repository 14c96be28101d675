"""Asks the model and sends the answers to the dispatcher; what raised is left to the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.errors import DiskFull, ServersGone, is_full, worded
from ..core.redact import Redactor
from .generation import Generation
from .journal import Answer
from .lease import DispatcherClient, Lease
from .model_errors import free_memory, is_lasting, is_out_of_memory
from .work import Item, Work, item_seed, seed_everything
from .worker_errors import ErrorPrinter

LONGEST_REASON = 500

# Returns one result per item, in order. An exception in place of a result concerns that item alone;
# one that is raised concerns all of them, and they are then asked one by one.
AnswerItems = Callable[[Sequence[Item]], Sequence[Generation | Exception]]
Results = Sequence[Generation | Exception] | Exception  # of one call, or what it raised


class QuestionError(NamedTuple):
    """A question whose call raised an exception.

    Attributes:
        reason: One line, made before the traceback is cleared (it holds memory of the device).
    """

    item: Item
    error: Exception
    reason: str


class Asker:
    """Asks the model of this process.

    Args:
        run_root: Folder of the run.
        work: The work of this launch.
        dispatcher: Is sent each answer.
        answer: Asks the model.
    """

    def __init__(
        self, run_root: Path, work: Work, dispatcher: DispatcherClient, answer: AnswerItems
    ) -> None:
        self._epochs, self._run_seed, self._launch = work.epochs, work.seed, work.launch
        self._dispatcher, self._answer = dispatcher, answer
        self._errors = ErrorPrinter(run_root, work.launch)
        self._redact = Redactor.from_environ().line

    def ask(self, items: Sequence[Item], lease: Lease, again: bool = True) -> list[QuestionError]:
        """Answer questions and send the answers; returns what raised.

        A chunk that raises as a whole is asked again item by item. An item that lacks memory is
        asked once more, alone, after memory was freed.
        """
        seed_everything(self._seed(items))
        began = time.monotonic()
        results = self.results(items)
        if isinstance(results, Exception) and len(items) > 1:
            self._errors.report(_raised(items), results)
            self._raise_if_broken(results, lease)
            free_memory([results])
            return [one for item in items for one in self.ask([item], lease)]
        raised = self.take(items, results, lease, time.monotonic() - began)
        if again and (lacking := [one.item for one in raised if is_out_of_memory(one.error)]):
            raised = [one for one in raised if one.item not in lacking]
            raised += [one for item in lacking for one in self.ask([item], lease, again=False)]
        return raised

    def results(self, items: Sequence[Item]) -> Results:
        """The results of a call, or its exception.

        The exception is returned, not raised, so that no handler keeps its frames alive.
        """
        try:
            results = list(self._answer(items))
        except Exception as error:
            return error
        if len(results) != len(items):
            return RuntimeError(f"{len(items)} questions were asked and {len(results)} answered")
        return results

    def take(
        self, items: Sequence[Item], results: Results, lease: Lease, seconds: float
    ) -> list[QuestionError]:
        """Send the answers of one call; returns what raised.

        An exception of the call counts for all of its questions.
        """
        each = [results] * len(items) if isinstance(results, Exception) else results
        raised: list[QuestionError] = []
        for item, result in zip(items, each, strict=True):
            error = self._record(item, result, lease, seconds / len(items))
            if error is not None:
                raised.append(QuestionError(item, error, self._reason(error)))
        for item, error, _ in raised:
            self._errors.report(_raised([item]), error)
            self._raise_if_broken(error, lease)
        if raised:
            free_memory([one.error for one in raised])
        return raised

    def _record(
        self, item: Item, result: Generation | Exception, lease: Lease, share: float
    ) -> Exception | None:
        """Send an answer; returns the exception if there is none."""
        if isinstance(result, Exception):
            return result
        if not isinstance(result, Generation) or not isinstance(result.text, str):
            return TypeError(
                f"the model answered {type(getattr(result, 'text', result)).__name__}, not text"
            )
        seconds = share if result.seconds is None else result.seconds
        self._dispatcher.record(
            Answer(
                item.benchmark,
                item.id,
                self._epochs[item.benchmark],
                result.text,
                round(seconds, 4),
                result.tokens,
                result.finish,
                result.frames,
                result.prompt,
                fence=lease.number,
                launch=self._launch,
                cut=result.cut,
            )
        )
        return None

    def _raise_if_broken(self, error: Exception, lease: Lease) -> None:
        """Raise if this process cannot continue after ``error``.

        Raises:
            DiskFull: A disk is full. The questions are returned, because a few failed ones would
                count as wrong in a complete benchmark.
            ServersGone: No server answers; the questions are returned.
            Exception: ``error`` itself, if every later call would raise it too (``is_lasting``).
        """
        if isinstance(error, ServersGone):
            self._dispatcher.give_back(lease, self._reason(error))
            raise error
        if is_full(error):
            self._dispatcher.give_back(lease, self._reason(error))
            raise DiskFull(f"the disk is full; answers so far are kept: {worded(error)}") from error
        if is_lasting(error):
            raise error

    def _reason(self, error: Exception) -> str:
        """One line "Type: message", redacted because it is shown in tables and archived."""
        return " ".join(self._redact(worded(error)).split())[:LONGEST_REASON]

    def _seed(self, items: Sequence[Item]) -> int:
        """The seed for a call: that of the question, or of the batch as a whole.

        Engines that sample in batches must seed each row with ``item_seed``; otherwise an answer
        depends on the rest of its batch.
        """
        return item_seed(self._run_seed, items[0].benchmark, "\n".join(item.id for item in items))


def _raised(items: Sequence[Item]) -> str:
    names = ", ".join(item.id for item in items[:3]) + (" ..." if len(items) > 3 else "")
    return f"{items[0].benchmark} {names} raised"
