"""What each launch of workers is for. Pure: told how the last one ended, it decides on the next.

All that is unanswered is launched together, so that the model is loaded once, as long as that brings something. On the
backends one benchmark that cannot even be read may end a launch for all: then each gets a launch of its own, once. What
keeps the model from being loaded does so in every launch, and is not tried again. Questions for which the memory did not
suffice are asked again by half as many workers, each of which then has twice the GPUs, down to one that has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .benchmarks import Benchmark


@dataclass(frozen=True)
class Standing:
    """Where the answers stand when no worker runs."""

    left: Sequence[Benchmark]  # those with a question that has no outcome
    answered: int  # questions with an outcome, of all benchmarks
    lacked_memory: bool = False  # all that is left waits for more of it
    blames_a_benchmark: bool = (
        False  # what a worker last said it was at can go wrong because of a benchmark
    )


@dataclass(frozen=True)
class Launch:
    """One launch: ``stage`` counts how often the number of workers was halved, ``said`` is a word for people on why it is made."""

    benchmarks: Sequence[Benchmark]
    workers: int
    stage: int
    said: str = ""


@dataclass
class Launches:
    """The decisions for one run, in order; ``workers`` is what the next launch has."""

    workers: int
    _stage: int = 0
    _answered: int | None = None  # when the workers were last started
    _alone: list[Benchmark] | None = field(
        default=None
    )  # those still to be tried alone, once it came to that

    def next(self, standing: Standing) -> Launch | None:
        """The next launch, or None if nothing is left or nothing more can be hoped for."""
        if not standing.left:
            return None
        if standing.lacked_memory and self.workers > 1:
            return self._with_more_memory(standing)
        before, self._answered = self._answered, standing.answered
        if before is None:
            return Launch(standing.left, self.workers, self._stage)
        if standing.answered > before and self._alone is None:
            return Launch(
                standing.left,
                self.workers,
                self._stage,
                "the workers ended before all was answered; starting them again",
            )
        bench = self._next_alone(standing)
        if bench is None:
            return None
        return Launch(
            [bench],
            self.workers,
            self._stage,
            f"the workers ended before all was answered; now {bench.title} in a launch of its own",
        )

    def _with_more_memory(self, standing: Standing) -> Launch:
        self.workers, self._stage = self.workers // 2, self._stage + 1
        titles = ", ".join(bench.title for bench in standing.left)
        return Launch(
            standing.left,
            self.workers,
            self._stage,
            f"some questions of {titles} lacked memory; asked again by fewer workers",
        )

    def _next_alone(self, standing: Standing) -> Benchmark | None:
        if self._alone is None:  # the last launch had all that is left
            self._alone = (
                list(standing.left)
                if len(standing.left) > 1 and standing.blames_a_benchmark
                else []
            )
        while self._alone:
            bench = self._alone.pop(0)
            if bench in standing.left:
                return bench
        return None
