"""A score's interval as plain data, and the intervals of scores that are means of others.

This module imports no numpy: a finished run reads its intervals and makes none.
"""

from __future__ import annotations

import base64
import math
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SCALE = 100.0  # the highest score; one that is adjusted for chance may be below 0


@dataclass(frozen=True)
class Interval:
    """How sure a score is, 0-100 points.

    Attributes:
        value: The score.
        error: Its standard error.
        low: Lower end of the 95 % interval.
        high: Upper end of it.
        n: Number of questions, or of sets of questions (see ``scores/recompute.py``).
        clusters: Number of scenes, videos or images that they share.
        method: How the interval was made: ``wilson`` or ``bootstrap``; followed by ``, t`` if it is
            widened because there are few clusters.
        chance: Score to expect of an answer by guess; None if there are no options to guess from.
    """

    value: float
    error: float
    low: float
    high: float
    n: int
    clusters: int
    method: str
    chance: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval as it is shown; None if it is of one scene or wider than the scale."""
        if self.clusters < 2 or self.high - self.low > SCALE:
            return None
        return self.low, min(self.high, SCALE)

    @property
    def above_chance(self) -> bool:
        """Whether the score is certainly better than a guess, or there is nothing to guess."""
        return self.chance is None or self.low > self.chance

    @property
    def at_chance(self) -> bool:
        """Whether the score cannot be told from a guess."""
        return self.chance is not None and self.low <= self.chance <= self.high


def pack(draws: Iterable[float]) -> str:
    """Return bootstrap draws as short text."""
    return base64.b64encode(zlib.compress(array("f", draws).tobytes(), 1)).decode("ascii")


def unpack(text: str) -> Sequence[float]:
    """Return the draws that ``pack`` wrote."""
    return array("f", zlib.decompress(base64.b64decode(text)))


def weighted_mean(
    value: float, parts: Sequence[tuple[float, Interval, str]]
) -> tuple[Interval, str]:
    """Return the interval of a mean of scores of different questions, and its draws.

    The parts are bootstrapped apart, because each has clusters of its own; draw by draw their mean
    is one of the whole (a stratified bootstrap). The weights do not vary: all parts are asked in
    full.

    Args:
        value: The mean.
        parts: Weight, interval and draws of each part.
    """
    whole = sum(weight for weight, _, _ in parts)
    shares = [weight / whole for weight, _, _ in parts]
    drawn = [0.0] * len(unpack(parts[0][2]))
    for share, (_, _, text) in zip(shares, parts, strict=True):
        drawn = [total + share * one for total, one in zip(drawn, unpack(text), strict=True)]
    middle, ordered = math.fsum(drawn) / len(drawn), sorted(drawn)
    intervals = [interval for _, interval, _ in parts]
    chances = [interval.chance or 0.0 for interval in intervals]
    made = Interval(
        value,
        math.sqrt(math.fsum((one - middle) ** 2 for one in drawn) / len(drawn)),
        _quantile(ordered, 0.025),
        _quantile(ordered, 0.975),
        sum(interval.n for interval in intervals),
        sum(interval.clusters for interval in intervals),
        "bootstrap, t" if any(", t" in interval.method for interval in intervals) else "bootstrap",
        sum(share * chance for share, chance in zip(shares, chances, strict=True)),
    )
    return made, pack(drawn)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile as ``numpy.quantile`` does."""
    below, rest = divmod(share * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + rest * (high - low)
