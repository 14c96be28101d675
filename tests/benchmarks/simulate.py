"""The real dispatcher and journal with workers that answer in no time on a clock of their own."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from draws import Draw
from easi_eval.engine.dispatcher import Dispatcher
from easi_eval.engine.journal import Answer
from easi_eval.engine.lease import Lease
from easi_eval.engine.work import Assignment, Work

ASK_AGAIN = 0.05  # seconds until an idle worker asks again


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


def simulate(
    drawn: Draw, workers: int = 8, chunk: int = 1, slower: Sequence[float] = ()
) -> Schedule:
    """Simulate a run in which the dispatcher makes every decision and only answering is left out.

    ``slower`` says how many times as long each worker takes, by default once.

    An assertion fails if a question is answered twice.
    """
    clock = Clock()
    ends: dict[tuple[str, str], float] = {}
    by: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Work(tuple(Assignment(key, key) for key in drawn.items))
        dispatcher = Dispatcher(Path(folder), work, clock=clock)
        members = [dispatcher.join(f"w{number}", 0) for number in range(workers)]
        dispatcher.learn(drawn.items, chunk)
        items = [item for group in drawn.items.values() for item in group]
        leases: list[Lease | None] = [None] * workers
        events = [(0.0, number) for number in range(workers)]
        while events:
            clock.now, number = heapq.heappop(events)
            if lease := leases[number]:
                for item in (items[place] for place in lease.places):
                    assert item.key not in ends
                    ends[item.key], by[item.key] = clock.now, number
                    answer = Answer(item.benchmark, item.id, 0, "", drawn.seconds[item.key])
                    dispatcher.record(members[number], answer)
                dispatcher.finish(members[number], lease.number, ())
            given = dispatcher.ask(members[number])
            leases[number] = given if isinstance(given, Lease) else None
            if isinstance(given, Lease):
                seconds = sum(drawn.seconds[items[place].key] for place in given.places)
                seconds *= slower[number] if slower else 1
                heapq.heappush(events, (clock.now + seconds, number))
            elif not dispatcher.over:
                heapq.heappush(events, (clock.now + ASK_AGAIN, number))
        dispatcher.close()
    assert ends.keys() == drawn.seconds.keys()
    return Schedule(ends, by)
