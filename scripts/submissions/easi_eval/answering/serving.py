"""In which order questions are served, and how many are handed out at once. Pure: numbers in, a choice out.

Benchmarks are served one after the other, the longest-expected question first inside each. Two things end a run late:
a long question that is begun near the end, and a worker that sits on several when the others have none. So a question
of a later benchmark is begun early as soon as it would take a large part of what is left for each worker, and nobody
draws more at once than a small part of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .book import Book
from .work import Item

DRAW_FOR = 0.25  # seconds of work drawn at once where questions are quicker than that
MOST_CHUNKS = 64  # ... but never more chunks
SHARE = 4  # ... and at most this part of what is left for each worker
EARLY = 6.0  # a question that may take 1/EARLY of what is left for each worker is begun now
FEW = 5.0  # questions' worth of cost that the measured times of one benchmark must outweigh

Chunk = tuple[int, ...]  # places in the list of all items
Pool = list[Chunk]  # one benchmark's chunks in serving order


def make_plan(items: Mapping[str, Sequence[Item]], book: Book, chunk: int) -> list[Pool]:
    """A pool of unanswered questions for each benchmark in the given order, the most expensive first, in chunks of
    ``chunk``; and one more, of the questions that were in flight when workers died repeatedly or hung, each alone.
    """
    pools: list[Pool] = []
    suspects: Pool = []
    first = 0
    for group in items.values():
        left = [
            (-item.cost, place)
            for place, item in enumerate(group, first)
            if not book.settled(item.key)
        ]
        first += len(group)
        calm: list[int] = []
        for _, place in sorted(left):
            if book.suspect(group[place - first].key):
                suspects.append((place,))
            else:
                calm.append(place)
        pools.append(in_chunks(calm, chunk))
    return [*pools, suspects]


def in_chunks(places: Sequence[int], size: int) -> Pool:
    return [tuple(places[at : at + size]) for at in range(0, len(places), size)]


Sums = list[list[float]]  # for each benchmark: seconds, cost, questions


class Pace:
    """What questions took for their cost, by benchmark: in earlier launches, here, and elsewhere as the others tell."""

    def __init__(self, benchmarks: int) -> None:
        self._earlier, self.own, self._others = (_nothing(benchmarks) for _ in range(3))

    def remember(self, benchmark: int, seconds: float, cost: float, questions: int) -> None:
        """What the journals hold already."""
        _add(self._earlier[benchmark], (seconds, cost, questions))

    def add(self, benchmark: int, seconds: float, cost: float, questions: int) -> None:
        """What this worker just did."""
        _add(self.own[benchmark], (seconds, cost, questions))

    def hear(self, others: Iterable[Sums]) -> None:
        """``own`` of each of the others; replaces what was heard before."""
        self._others = _nothing(len(self.own))
        for sums in others:
            for row, more in zip(self._others, sums, strict=True):
                _add(row, more)

    def scales(self) -> list[float] | None:
        """Seconds per unit of cost for each benchmark; None before anything was measured.

        A benchmark with few answers leans on what all of them together took.
        """
        rows = [
            [sum(part) for part in zip(*parts, strict=True)]
            for parts in zip(self._earlier, self.own, self._others, strict=True)
        ]
        seconds, cost, questions = (sum(part) for part in zip(*rows, strict=True))
        if seconds <= 0 or cost <= 0:
            return None
        usual, lean = seconds / cost, FEW * cost / questions
        return [(spent + usual * lean) / (of + lean) for spent, of, _ in rows]


def _nothing(benchmarks: int) -> Sums:
    return [[0.0, 0.0, 0.0] for _ in range(benchmarks)]


def _add(row: list[float], more: Sequence[float]) -> None:
    for place, amount in enumerate(more):
        row[place] += amount


@dataclass(frozen=True)
class Choice:
    """Draw ``several`` chunks from this pool."""

    pool: int
    several: int


class Order:
    """The plan of one round, and what to take next from it."""

    def __init__(self, plan: Sequence[Pool], costs: Sequence[float]) -> None:
        self.plan = plan
        self._costs = [[sum([costs[place] for place in chunk]) for chunk in pool] for pool in plan]
        self._left: list[list[float]] = []  # of each pool, by how many chunks were drawn
        for pool in self._costs:
            left = [0.0]
            for cost in reversed(pool):
                left.append(left[-1] + cost)
            self._left.append(left[::-1])

    def over(self, drawn: Sequence[int]) -> bool:
        return all(count >= len(pool) for count, pool in zip(drawn, self.plan, strict=True))

    def choose(
        self, drawn: Sequence[int], scales: Sequence[float] | None, workers: int
    ) -> Choice | None:
        """What a worker takes next if ``drawn`` chunks of each pool are gone; None if all are.

        The pool of suspects has no benchmark's scale and is served, one by one, when the others are empty.
        """
        rates = [*(scales or (1.0 for _ in self.plan[1:])), 0.0]
        open_pools = [place for place, pool in enumerate(self.plan) if drawn[place] < len(pool)]
        if not open_pools:
            return None
        share = (
            sum(self._left[place][drawn[place]] * rates[place] for place in open_pools) / workers
        )
        heads = {place: self._costs[place][drawn[place]] * rates[place] for place in open_pools}
        pool = open_pools[0]
        if pool == len(self.plan) - 1 or scales is None:
            return Choice(pool, 1)
        longest = max(heads, key=lambda place: heads[place])
        if workers > 1 and heads[longest] * EARLY > share and heads[longest] > heads[pool]:
            return Choice(longest, 1)
        return Choice(pool, self._several(pool, drawn[pool], rates[pool], share))

    def _several(self, pool: int, at: int, rate: float, share: float) -> int:
        """How many chunks to draw at once: one, unless they are so quick that asking for each would cost."""
        most = min(DRAW_FOR, share / SHARE)
        expected, several = 0.0, 0
        for cost in self._costs[pool][at : at + MOST_CHUNKS]:
            expected += cost * rate
            if expected > most:
                break
            several += 1
        return max(several, 1)
