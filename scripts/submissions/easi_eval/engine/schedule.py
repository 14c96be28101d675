"""The order in which questions are served.

Pure functions. Benchmarks are served one after the other; within a benchmark the question with the
longest expected time comes first. A run ends late if a long question is begun near the end, or if
one worker holds several questions when the others have none. Therefore a question of a later
benchmark is begun early as soon as it would take a large part of what is left for each worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .work import Chunk, Item, Key

EARLY = 6.0  # a question that takes 1/EARLY of what is left for each worker is begun now
PRIOR_WEIGHT = 5.0  # weight of the common scale in that of one benchmark, in average questions

Pool = list[Chunk]  # one benchmark's chunks in serving order


def make_pools(
    items: Mapping[str, Sequence[Item]],
    settled: Callable[[Key], bool],
    suspect: Callable[[Key], bool],
    chunk: int,
) -> list[Pool]:
    """One pool of unanswered questions per benchmark, and one of suspects.

    Args:
        items: The questions of each benchmark, in serving order of the benchmarks.
        settled: Whether a question has its outcome.
        suspect: Whether a question may kill workers, and is asked last and alone.
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
            (-item.cost, place) for place, item in enumerate(group, first) if not settled(item.key)
        ]
        first += len(group)
        calm: list[int] = []
        for _, place in sorted(left):
            if suspect(group[place - first].key):
                suspects.append((place,))
            else:
                calm.append(place)
        pools.append(in_chunks(calm, chunk))
    return [*pools, suspects]


def in_chunks(places: Sequence[int], size: int) -> Pool:
    """Split places into chunks of at most ``size``."""
    return [tuple(places[at : at + size]) for at in range(0, len(places), size)]


class Pace:
    """Measured seconds per unit of cost for each benchmark, from the journals and this launch."""

    def __init__(self, benchmarks: int) -> None:
        self._sums = [[0.0, 0.0, 0.0] for _ in range(benchmarks)]  # seconds, cost, questions

    def add(self, benchmark: int, seconds: float, cost: float, questions: int) -> None:
        """Add what was measured."""
        for place, amount in enumerate((seconds, cost, questions)):
            self._sums[benchmark][place] += amount

    def scales(self) -> list[float] | None:
        """Seconds per unit of cost for each benchmark; None before anything was measured.

        The scale of a benchmark with few answers is drawn towards that of all benchmarks, with the
        weight of ``PRIOR_WEIGHT`` average questions.
        """
        seconds, cost, questions = (sum(part) for part in zip(*self._sums, strict=True))
        if seconds <= 0 or cost <= 0:
            return None
        usual, lean = seconds / cost, PRIOR_WEIGHT * cost / questions
        return [(spent + usual * lean) / (of + lean) for spent, of, _ in self._sums]


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

    def choose(
        self, drawn: Sequence[int], scales: Sequence[float] | None, workers: int
    ) -> int | None:
        """The pool from which a worker gets the next chunk; None if all chunks are drawn.

        The pool of suspects is served last.

        Args:
            drawn: Chunks that were drawn from each pool.
            scales: Result of ``Pace.scales``.
            workers: Number of living workers.
        """
        open_pools = [place for place, pool in enumerate(self.plan) if drawn[place] < len(pool)]
        if not open_pools:
            return None
        pool = open_pools[0]
        if pool == len(self.plan) - 1 or scales is None or workers == 1:
            return pool
        rates = [*scales, 0.0]
        share = (
            sum(self._left[place][drawn[place]] * rates[place] for place in open_pools) / workers
        )
        heads = {place: self._costs[place][drawn[place]] * rates[place] for place in open_pools}
        longest = max(heads, key=lambda place: heads[place])
        early = heads[longest] * EARLY > share and heads[longest] > heads[pool]
        return longest if early else pool
