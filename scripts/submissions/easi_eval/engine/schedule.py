"""The order in which questions are served, and how many are handed out at once.

Pure functions. Benchmarks are served one after the other; within a benchmark the question with the
longest expected time comes first. A run ends late if a long question is begun near the end, or if
one worker holds several questions when the others have none. Therefore a question of a later
benchmark is begun early as soon as it would take a large part of what is left for each worker, and
no worker draws more at once than a small part of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .journal_state import JournalState
from .work import Item

DRAW_FOR = 0.25  # seconds of work drawn at once where single questions take less
MOST_CHUNKS = 64  # most chunks drawn at once
SHARE = 4  # at most 1/SHARE of what is left for each worker is drawn at once
EARLY = 6.0  # a question that takes 1/EARLY of what is left for each worker is begun now
PRIOR_WEIGHT = 5.0  # weight of the common scale in that of one benchmark, in average questions

Chunk = tuple[int, ...]  # places in the list of all items
Pool = list[Chunk]  # one benchmark's chunks in serving order


def make_pools(items: Mapping[str, Sequence[Item]], state: JournalState, chunk: int) -> list[Pool]:
    """One pool of unanswered questions per benchmark, and one of suspects.

    Args:
        items: The questions of each benchmark, in serving order of the benchmarks.
        state: Tells which questions are settled or suspect (``JournalState.suspect``).
        chunk: Questions per chunk.

    Returns:
        The pools in the order of ``items``, each with the most expensive questions first. The last
        pool holds the suspects of all benchmarks, each in a chunk of its own.
    """
    pools: list[Pool] = []
    suspects: Pool = []
    first = 0
    for group in items.values():
        left = [
            (-item.cost, place)
            for place, item in enumerate(group, first)
            if not state.settled(item.key)
        ]
        first += len(group)
        calm: list[int] = []
        for _, place in sorted(left):
            if state.suspect(group[place - first].key):
                suspects.append((place,))
            else:
                calm.append(place)
        pools.append(in_chunks(calm, chunk))
    return [*pools, suspects]


def in_chunks(places: Sequence[int], size: int) -> Pool:
    """Split places into chunks of at most ``size``."""
    return [tuple(places[at : at + size]) for at in range(0, len(places), size)]


Sums = list[list[float]]  # per benchmark: seconds, cost, number of questions


class Pace:
    """Measured seconds per unit of cost for each benchmark.

    It adds up three sources: the journals of earlier launches, this worker, and the other workers.

    Attributes:
        own: Sums of this worker, which it tells the others.
    """

    def __init__(self, benchmarks: int) -> None:
        self._earlier, self.own, self._others = (_nothing(benchmarks) for _ in range(3))

    def add_earlier(self, benchmark: int, seconds: float, cost: float, questions: int) -> None:
        """Add what the journals already hold."""
        _add(self._earlier[benchmark], (seconds, cost, questions))

    def add(self, benchmark: int, seconds: float, cost: float, questions: int) -> None:
        """Add what this worker just measured."""
        _add(self.own[benchmark], (seconds, cost, questions))

    def set_others(self, others: Iterable[Sums]) -> None:
        """Replace the sums of the other workers; each is the ``own`` of one of them."""
        self._others = _nothing(len(self.own))
        for sums in others:
            for row, more in zip(self._others, sums, strict=True):
                _add(row, more)

    def scales(self) -> list[float] | None:
        """Seconds per unit of cost for each benchmark; None before anything was measured.

        The scale of a benchmark with few answers is drawn towards that of all benchmarks, with the
        weight of ``PRIOR_WEIGHT`` average questions.
        """
        rows = [
            [sum(part) for part in zip(*parts, strict=True)]
            for parts in zip(self._earlier, self.own, self._others, strict=True)
        ]
        seconds, cost, questions = (sum(part) for part in zip(*rows, strict=True))
        if seconds <= 0 or cost <= 0:
            return None
        usual, lean = seconds / cost, PRIOR_WEIGHT * cost / questions
        return [(spent + usual * lean) / (of + lean) for spent, of, _ in rows]


def _nothing(benchmarks: int) -> Sums:
    return [[0.0, 0.0, 0.0] for _ in range(benchmarks)]


def _add(row: list[float], more: Sequence[float]) -> None:
    for place, amount in enumerate(more):
        row[place] += amount


@dataclass(frozen=True)
class Choice:
    """Draw ``several`` chunks from the pool with the index ``pool``."""

    pool: int
    several: int


class Schedule:
    """The plan of one round, and the rule for what to take next from it.

    Args:
        plan: The pools of ``make_pools``.
        costs: Expected time of each item, by place.
    """

    def __init__(self, plan: Sequence[Pool], costs: Sequence[float]) -> None:
        self.plan = plan
        self._costs = [[sum([costs[place] for place in chunk]) for chunk in pool] for pool in plan]
        self._left: list[list[float]] = []  # cost left in each pool, by number of drawn chunks
        for pool in self._costs:
            left = [0.0]
            for cost in reversed(pool):
                left.append(left[-1] + cost)
            self._left.append(left[::-1])

    def over(self, drawn: Sequence[int]) -> bool:
        """Whether all chunks of all pools are drawn."""
        return all(count >= len(pool) for count, pool in zip(drawn, self.plan, strict=True))

    def choose(
        self, drawn: Sequence[int], scales: Sequence[float] | None, workers: int
    ) -> Choice | None:
        """What a worker takes next; None if all chunks are drawn.

        The pool of suspects is served last, one chunk at a time.

        Args:
            drawn: Chunks that were drawn from each pool.
            scales: Result of ``Pace.scales``.
            workers: Number of living workers.
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
        """How many chunks to draw at once.

        One, unless they take so little time that drawing each on its own would cost more.
        """
        most = min(DRAW_FOR, share / SHARE)
        expected, several = 0.0, 0
        for cost in self._costs[pool][at : at + MOST_CHUNKS]:
            expected += cost * rate
            if expected > most:
                break
            several += 1
        return max(several, 1)
