"""The real queue and journal with workers that answer in no time on a clock of their own."""

from __future__ import annotations

import heapq
import tempfile
from dataclasses import dataclass
from pathlib import Path

from draws import Draw
from easi_eval.engine.journal import Answer, Journal
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.queue import Lease, Queue
from easi_eval.engine.stores import LocalStore

ASK_AGAIN = 0.05  # seconds until an idle worker asks the queue again


@dataclass(frozen=True)
class Schedule:
    """When each question was answered, and by which worker, in seconds from the first lease."""

    ends: dict[tuple[str, str], float]
    workers: dict[tuple[str, str], int]

    @property
    def makespan(self) -> float:
        return max(self.ends.values())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def simulate(drawn: Draw, workers: int = 8, chunk: int = 1) -> Schedule:
    """Simulate a run in which the real queue makes every decision and only answering is left out.

    An assertion fails if a question is answered twice.
    """
    clock, store = Clock(), LocalStore()
    epochs = dict.fromkeys(drawn.items, 0)
    ends: dict[tuple[str, str], float] = {}
    by: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        journals = [Journal(Path(folder), f"w{number}", 0) for number in range(workers)]
        queues = [
            Queue(
                store,
                journal.worker,
                drawn.items,
                JournalState(Path(folder), epochs, 0, journal.path.name),
                chunk,
                clock=clock,
            )
            for journal in journals
        ]
        leases: list[Lease | None] = [None] * workers
        events = [(0.0, number) for number in range(workers)]
        while events:
            clock.now, number = heapq.heappop(events)
            queue, journal = queues[number], journals[number]
            if lease := leases[number]:
                for item in lease.items:
                    assert item.key not in ends
                    ends[item.key], by[item.key] = clock.now, number
                    journal.answer(Answer(item.benchmark, item.id, 0, "", drawn.seconds[item.key]))
                queue.done(lease)
            lease, over = queue.step()
            leases[number] = lease
            if lease:
                heapq.heappush(
                    events,
                    (clock.now + sum(drawn.seconds[item.key] for item in lease.items), number),
                )
            elif not over:
                heapq.heappush(events, (clock.now + ASK_AGAIN, number))
        for queue, journal in zip(queues, journals, strict=True):
            queue.close()
            journal.close()
    assert ends.keys() == drawn.seconds.keys()
    return Schedule(ends, by)
