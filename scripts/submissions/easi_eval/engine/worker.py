"""The loop of one worker: lease questions, answer them, journal outcomes, give back failures."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..core.atomic_files import text_digest
from ..core.run_folder import RunPaths
from .asking import AnswerItems, Asker, QuestionError, Results
from .doubt import ENOUGH, Doubt
from .journal import Journal
from .journal_state import JournalState
from .model_errors import is_out_of_memory
from .queue import Lease, Queue
from .stores import LocalStore, Store, connect
from .work import Item, SetAside, Work

# An item is recorded as failed after so many tries, deaths of workers, or killed hangs.
MAX_TRIES = 2
MAX_DEATHS = 3
MAX_HANGS = 2
# Longest wait for one of several open calls, in seconds; then the queue is asked for more work.
COLLECT_FOR = 1.0
# Seconds between two checks of a worker that waits for others to try its questions.
ASK_AGAIN = 0.2


# Arguments: the questions to be asked now, and those that probably follow. Returns at once.
Prepare = Callable[[Sequence[Item], Sequence[Item]], None]


def open_journal(run_root: Path, work: Work) -> Journal:
    """This attempt's journal, named by EASI_WORKER (default w0) and EASI_ATTEMPT (default 0)."""
    return Journal(
        RunPaths(run_root).journal,
        os.environ.get("EASI_WORKER") or "w0",
        int(os.environ.get("EASI_ATTEMPT") or 0),
        work.launch,
    )


def work_loop(
    run_root: Path,
    work: Work,
    items: Mapping[str, Sequence[Item]],
    answer: AnswerItems,
    chunk: int = 1,
    journal: Journal | None = None,
    store: Store | None = None,
    prepare: Prepare | None = None,
    at_once: int = 1,
) -> None:
    """Answer questions until every one of ``items`` has an outcome in the journals of ``run_root``.

    It returns at once, without a queue, if nothing is left. On SIGUSR1 the process writes the
    stacks of its threads to stderr. Exceptions that concern the whole worker are raised: a damaged
    journal, a full disk, a lost queue, a broken device. The worker can be restarted after each of
    them.

    Args:
        run_root: Folder of the run.
        work: The work of this launch; gives the order of the benchmarks.
        items: The questions of each benchmark in document order, equal for all workers.
        answer: Answers up to ``chunk`` questions of one benchmark.
        chunk: Most questions per call of ``answer``.
        journal: The journal, if phases were written to it before; it is closed here.
        store: Store of the queue. Default: the one at EASI_STORE (host:port); without that variable
            this worker is alone.
        prepare: Is told which questions are asked next.
        at_once: Number of threads that call ``answer`` at the same time, for one benchmark at a
            time (a client of a server). With more than one the generators of random numbers are not
            seeded per question.
    """
    with journal or open_journal(run_root, work) as journal:
        state = JournalState.of(run_root, work, skip=journal.path.name)
        state.poll()
        served = {assignment.key: tuple(items[assignment.key]) for assignment in work.benchmarks}
        if any(not state.settled(item.key) for group in served.values() for item in group):
            # The keeper sends SIGUSR1 before it kills a silent worker.
            faulthandler.register(signal.SIGUSR1, all_threads=True)
            queue = Queue(
                store or _store(run_root, work),
                journal.worker,
                served,
                state,
                chunk,
                before_idle=journal.sync,
                ahead=prepare is not None,
                at_once=at_once,
            )
            journal.phase("answering")
            worker = _Worker(run_root, work, journal, queue, state, answer, prepare)
            try:
                worker.run() if at_once == 1 else worker.run_several(at_once)
            finally:
                queue.close()
        journal.phase("done")


def _store(run_root: Path, work: Work) -> Store:
    """The store at EASI_STORE, with a prefix for this run, launch and stage."""
    address = os.environ.get("EASI_STORE")
    if not address:
        return LocalStore()
    run = text_digest(str(run_root.resolve()))[:12]
    return connect(address).with_prefix(f"easi/{run}/{work.launch}.{work.stage}")


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
        journal: Journal,
        queue: Queue,
        state: JournalState,
        answer: AnswerItems,
        prepare: Prepare | None = None,
    ) -> None:
        self._work, self._journal, self._queue, self._state = work, journal, queue, state
        self._prepare, self._set_aside = prepare, SetAside(run_root, work.launch)
        self._doubt = Doubt(state)
        self._asker = Asker(run_root, work, journal, self._doubt, answer)

    def run(self) -> None:
        """Serve leases one after the other until the queue is empty."""
        while lease := self._next():
            self._serve(lease)
            self._queue.done(lease)

    def run_several(self, threads: int) -> None:
        """Serve up to ``threads`` leases at the same time.

        The next lease is taken as soon as any is done. Each answer is journalled when it arrives.
        """
        pool, wait_for = ThreadPoolExecutor(threads, "easi-ask"), 0.0
        open_calls: dict[Future[Results], _Call] = {}
        try:
            while True:
                lease, over = self._queue.step() if len(open_calls) < threads else (None, False)
                if over:
                    return
                while lease and any(
                    call.lease.items[0].benchmark != lease.items[0].benchmark
                    for call in open_calls.values()
                ):
                    # The backend sets up the model per benchmark: finish the other one first.
                    self._collect(open_calls)
                if lease and (asked := self._begin(lease)):
                    open_calls[pool.submit(self._asker.results, asked)] = _Call(
                        lease, asked, time.monotonic()
                    )
                elif lease:
                    self._queue.done(lease)
                elif open_calls:
                    self._collect(open_calls)
                    wait_for = 0.01
                else:
                    time.sleep(wait_for)
                    wait_for = min(1.5 * wait_for + 0.01, 0.5)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self, calls: dict[Future[Results], _Call]) -> None:
        """Wait for a call to end, at most ``COLLECT_FOR`` seconds, and journal the results.

        The wait is bounded, because the queue must be checked for news of other workers.
        """
        done, _ = wait(calls, COLLECT_FOR, FIRST_COMPLETED)
        # Answers first, because the exception of another call may end this worker.
        for future in sorted(done, key=lambda each: isinstance(each.result(), Exception)):
            call = calls.pop(future)
            self._end(
                call.lease,
                call.asked,
                self._asker.take(
                    call.asked, future.result(), call.lease, time.monotonic() - call.began
                ),
            )
            self._queue.done(call.lease)

    def _next(self) -> Lease | None:
        """The next lease, or None if the queue is empty.

        A worker that may be broken (``Doubt.strong``) draws nothing from the plan until the
        questions it gave back have been judged. It still takes questions that other workers
        returned.
        """
        while self._doubt.strong and not self._queue.alone:
            self._doubt.judge()
            lease, over = self._queue.step(planned=False)
            if lease or over:
                return lease
            time.sleep(ASK_AGAIN)
        if self._queue.alone:
            self._doubt.judge_alone(self._journal.attempt)
        return self._queue.next()

    def _serve(self, lease: Lease) -> None:
        if asked := self._begin(lease):
            self._end(lease, asked, self._asker.ask(asked, lease))

    def _begin(self, lease: Lease) -> list[Item]:
        """Journal the lease; returns the questions to ask.

        Questions that killed too many workers are failed. Those of a benchmark that was set aside
        are recorded as such.
        """
        if lease.lost:
            self._journal.returned(lease.lost, "taken over: this worker was taken for dead")
        back = lease.returned or any(self._state.hangs(item.key) for item in lease.items)
        for size, steps in groupby(lease.drawn, len):
            self._journal.leased(
                [item for step in steps for item in step], size, lease.returned, back
            )
        deadly = {item: reason for item in lease.items if (reason := self._deadly(item))}
        for item, reason in deadly.items():
            self._asker.fail(item, lease, reason)
        left_out = self._set_aside.keys
        if aside := [
            item for item in lease.items if item.benchmark in left_out and item not in deadly
        ]:
            self._journal.aside(aside, "its benchmark was set aside", self._work.stage)
        asked = [item for item in lease.items if item not in deadly and item not in aside]
        if asked and self._prepare is not None:
            self._prepare(asked, self._queue.upcoming())
        return asked

    def _end(self, lease: Lease, asked: Sequence[Item], raised: Sequence[QuestionError]) -> None:
        """Give back, set aside or fail the questions that raised."""
        again: list[Item] = []
        # If a part of the batch was answered, the worker is not suspected.
        suspicious = len(raised) == len(asked)
        for item, error, reason in raised:
            if suspicious:
                self._doubt.raised()
            first = lease.tries + 1 < MAX_TRIES
            # After many failures in a row the lack of memory may be specific to this GPU: another
            # worker tries the question first.
            if (
                is_out_of_memory(error)
                and not self._work.final
                and not (first and self._doubt.streak > ENOUGH)
            ):
                self._journal.aside([item], reason, self._work.stage)
            elif first:
                self._journal.returned([item], reason)
                again.append(item)
            else:
                self._asker.fail(item, lease, reason)
                self._doubt.not_here()
        if again:
            self._queue.give_back(lease, again)
            if suspicious:
                self._doubt.gave_back(again)

    def _deadly(self, item: Item) -> str:
        """Why this question is not asked again, or ""."""
        if self._state.hangs(item.key) >= MAX_HANGS:
            return f"Hung: {MAX_HANGS} workers were killed because they gave no answer to this"
        if self._state.deaths(item.key) >= MAX_DEATHS:
            return f"Killed: {MAX_DEATHS} workers died while they answered this"
        return ""
