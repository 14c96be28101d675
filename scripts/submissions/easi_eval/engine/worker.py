"""The loop of one worker: lease questions, answer them, send each outcome to the dispatcher."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EasiError, ServersGone, worded
from .asking import AnswerItems, Asker, QuestionError, Results
from .bars import silence_bars
from .dispatch_client import connect
from .journal import SERVERS_GONE
from .lease import DispatcherClient, Lease, RaisedQuestion
from .model_errors import is_out_of_memory
from .work import Item, Work

# Longest wait for one of several open calls, in seconds; then the dispatcher is asked for more.
COLLECT_FOR = 1.0
# Seconds after which a worker that waits says so again, which shows that it does not hang.
SAY_EVERY = 60.0
MOST_THREADS = 1024


# Arguments: the questions to be asked now, and those that probably follow. Returns at once.
Prepare = Callable[[Sequence[Item], Sequence[Item]], None]


def work_loop(
    run_root: Path,
    work: Work,
    items: Mapping[str, Sequence[Item]],
    answer: AnswerItems,
    chunk: int = 1,
    dispatcher: DispatcherClient | None = None,
    prepare: Prepare | None = None,
    at_once: int | Callable[[], int] = 1,
    waiting: Callable[[], str] = str,
) -> None:
    """Answer questions until every one of ``items`` has an outcome in the journals of ``run_root``.

    On SIGUSR1 the process writes the stacks of its threads to stderr; on SIGUSR2 it ends as soon as
    it holds no question. Exceptions that concern the whole worker are raised: a damaged journal, a
    full disk, a lost dispatcher, a broken device. The worker can be restarted after each of them.

    Args:
        run_root: Folder of the run.
        work: The work of this launch; gives the order of the benchmarks.
        items: The questions of each benchmark in document order, equal for all workers.
        answer: Answers up to ``chunk`` questions of one benchmark.
        chunk: Most questions per call of ``answer``.
        dispatcher: The dispatcher, if phases were recorded before; it is closed here.
        prepare: Is told which questions are asked next.
        at_once: Number of threads that call ``answer`` at the same time, for one benchmark at a
            time (a client of a server). With more than one the generators of random numbers are not
            seeded per question. A client that adapts it gives a function.
        waiting: What such a client waits for, in words; empty as long as it is answered.
    """
    if chunk < 1:
        raise ValueError("a chunk holds at least one item")
    with dispatcher or connect(run_root, work) as dispatcher:
        served = {assignment.key: tuple(items[assignment.key]) for assignment in work.benchmarks}
        # The keeper sends SIGUSR1 before it kills a silent worker.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        silence_bars()
        dispatcher.phase("answering")
        threads = at_once if callable(at_once) else lambda: at_once
        dispatcher.tell(served, chunk, threads())
        worker = _Worker(run_root, work, served, dispatcher, answer, prepare)
        with contextlib.suppress(ValueError):  # only the main thread of a process handles signals
            signal.signal(signal.SIGUSR2, worker.hand_in)
        worker.run() if at_once == 1 else worker.run_several(threads, waiting)
        dispatcher.phase("done")


@dataclass(frozen=True)
class _Call:
    """A call of ``answer`` that runs in a thread."""

    lease: Lease
    asked: Sequence[Item]
    began: float


class _Worker:
    """The state of one worker in ``work_loop``."""

    def __init__(
        self,
        run_root: Path,
        work: Work,
        served: Mapping[str, Sequence[Item]],
        dispatcher: DispatcherClient,
        answer: AnswerItems,
        prepare: Prepare | None = None,
    ) -> None:
        self._items = tuple(item for each in served.values() for item in each)
        self._place = {item: place for place, item in enumerate(self._items)}
        self._dispatcher, self._prepare = dispatcher, prepare
        self._asker = Asker(run_root, work, dispatcher, answer)
        self._said = float("-inf")  # when this worker last said that it waits
        self._held = 0  # leases in hand
        self._ending = False

    def run(self) -> None:
        """Serve leases one after the other until no question is open."""
        while not self._dispatcher.over:
            if lease := self._dispatcher.ask(ahead=self._prepare is not None):
                asked = self._begin(lease)
                self._end(lease, self._asker.ask(asked, lease))

    def run_several(self, threads: Callable[[], int], waiting: Callable[[], str]) -> None:
        """Serve up to ``threads`` leases at the same time.

        The next lease is taken as soon as any is over. Each answer is recorded when it arrives.
        Questions that are open when this worker has to end are given back.
        """
        pool = ThreadPoolExecutor(MOST_THREADS, "easi-ask")
        calls: dict[Future[Results], _Call] = {}
        try:
            while not self._dispatcher.over:
                self._say(waiting())
                lease = (
                    self._dispatcher.ask(ahead=self._prepare is not None, wait=not calls)
                    if len(calls) < threads() and not self._ending
                    else None
                )
                while lease and any(
                    call.asked[0].benchmark != self._items[lease.places[0]].benchmark
                    for call in calls.values()
                ):
                    # The backend sets up the model per benchmark: finish the other one first.
                    self._collect(calls)
                if lease:
                    asked = self._begin(lease)
                    calls[pool.submit(self._asker.results, asked)] = _Call(
                        lease, asked, time.monotonic()
                    )
                elif calls:
                    self._collect(calls)
        except Exception as error:
            for future, call in calls.items():
                # If it is the dispatcher that is gone, it takes them back by itself.
                with contextlib.suppress(EasiError):
                    if future.done() and not isinstance(future.result(), Exception):
                        self._over(future, call)
                    else:
                        self._dispatcher.give_back(call.lease, worded(error))
            if isinstance(error, ServersGone):
                self._dispatcher.phase(SERVERS_GONE)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _say(self, waiting: str) -> None:
        """Record what this worker waits for, now and then, and when that is over."""
        now = time.monotonic()
        if waiting and now - self._said > SAY_EVERY:
            self._dispatcher.phase(waiting)
            self._said = now
        elif not waiting and self._said > float("-inf"):
            self._dispatcher.phase("answering")
            self._said = float("-inf")

    def _collect(self, calls: dict[Future[Results], _Call]) -> None:
        """Wait for a call to end, at most ``COLLECT_FOR`` seconds, and record the results.

        The wait is bounded, because other workers may have given something back.
        """
        done, _ = wait(calls, COLLECT_FOR, FIRST_COMPLETED)
        # Answers first, because the exception of another call may end this worker.
        for future in sorted(done, key=lambda each: isinstance(each.result(), Exception)):
            self._over(future, calls.pop(future))

    def _over(self, future: Future[Results], call: _Call) -> None:
        """Record the results of a call that has ended."""
        seconds = time.monotonic() - call.began
        self._end(call.lease, self._asker.take(call.asked, future.result(), call.lease, seconds))

    def hand_in(self, *_: object) -> None:
        """Take no more leases, and end the process when those in hand are over."""
        self._ending = True
        if not self._held:
            sys.exit()

    def _begin(self, lease: Lease) -> tuple[Item, ...]:
        """The questions of a lease; those that probably follow are prepared from now on."""
        self._held += 1
        asked = items_at(self._items, lease.places)
        if self._prepare is not None:
            self._prepare(asked, items_at(self._items, lease.upcoming))
        return asked

    def _end(self, lease: Lease, raised: Sequence[QuestionError]) -> None:
        """Say that a lease is over, and what raised."""
        self._dispatcher.finish(
            lease,
            [
                RaisedQuestion(self._place[item], reason, is_out_of_memory(error))
                for item, error, reason in raised
            ],
        )
        self._held -= 1
        if self._ending:
            self.hand_in()


def items_at(items: Sequence[Item], places: Iterable[int]) -> tuple[Item, ...]:
    """The questions at these places."""
    return tuple(items[place] for place in places)
