"""Questions with drawn latencies, and what the stock static split makes of them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easi_eval.engine.work import Item

KEYS = tuple(f"benchmark_{number}" for number in range(1, 10))


@dataclass(frozen=True)
class Draw:
    """Questions of nine benchmarks with the seconds each takes.

    ``items`` carry the costs that the queue is told.
    """

    items: dict[str, list[Item]]
    seconds: dict[tuple[str, str], float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def bound(self, workers: int) -> float:
        """No schedule ends earlier."""
        return max(self.total / workers, max(self.seconds.values()))


def draw(
    seed: int, count: int = 2000, mean: float = 0.2, sigma: float = 1.0, known: float = 0.5
) -> Draw:
    """Draw lognormal seconds with this mean.

    ``known`` is the part of the variance of their logarithm that the costs explain.
    """
    rng = random.Random(f"{seed} {count} {sigma} {known}")
    middle = math.log(mean) - sigma**2 / 2
    items: dict[str, list[Item]] = {key: [] for key in KEYS}
    seconds: dict[tuple[str, str], float] = {}
    for number in range(count):
        feature, rest = (
            rng.gauss(0, sigma * math.sqrt(known)),
            rng.gauss(0, sigma * math.sqrt(1 - known)),
        )
        item = Item(KEYS[number * len(KEYS) // count], str(number), cost=math.exp(feature))
        items[item.benchmark].append(item)
        seconds[item.key] = math.exp(middle + feature + rest)
    return Draw(items, seconds)


def redraw(
    seed: int, features: Mapping[tuple[str, str], float], mean: float, sigma: float, known: float
) -> Draw:
    """As ``draw``, for given questions.

    ``features`` holds a standard normal number for each question, by benchmark and name, in
    document order.
    """
    rng = random.Random(f"{seed} {len(features)} {sigma} {known}")
    middle = math.log(mean) - sigma**2 / 2
    items: dict[str, list[Item]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for key, feature in features.items():
        items.setdefault(key[0], []).append(Item(*key))
        seconds[key] = math.exp(
            middle + sigma * (math.sqrt(known) * feature + math.sqrt(1 - known) * rng.gauss(0, 1))
        )
    return Draw(items, seconds)


def static_split(drawn: Draw, workers: int, barriers: bool) -> float:
    """Seconds of the stock split, in which rank r takes questions r, r+N, ...

    The ranks synchronise after each benchmark, or only at the end.
    """
    loads = [
        [sum(drawn.seconds[item.key] for item in group[rank::workers]) for rank in range(workers)]
        for group in drawn.items.values()
    ]
    if barriers:
        return sum(max(load) for load in loads)
    return max(sum(load) for load in zip(*loads, strict=True))


def completed_by(ends: dict[tuple[str, str], float], drawn: Draw, moment: float) -> int:
    """Benchmarks whose last answer came by then."""
    return sum(max(ends[item.key] for item in group) <= moment for group in drawn.items.values())


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
