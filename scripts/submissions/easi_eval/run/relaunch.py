"""Decide what each launch of workers is for. Pure: the input is how the last launch ended.

All unanswered questions go into one launch, so the model is loaded once, as long as each launch
answers something. One benchmark that cannot be read may end such a launch for all of them; then
each benchmark gets one launch of its own. A failure to load the model occurs in every launch, and
no such retry is made.

Questions that ran out of memory are asked again by half as many workers, each of which then has
twice the GPUs, down to one worker with all of them. Machines that joined halve theirs, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..benchmarks import Benchmark


@dataclass(frozen=True)
class Standing:
    """The state of the answers when no worker runs.

    Attributes:
        left: Benchmarks with unanswered questions.
        answered: Number of questions with an outcome, of all benchmarks.
        lacked_memory: All unanswered questions need more memory.
        blames_a_benchmark: The last phase that a worker reported can fail because of a benchmark.
    """

    left: Sequence[Benchmark]
    answered: int
    lacked_memory: bool = False
    blames_a_benchmark: bool = False


@dataclass(frozen=True)
class Launch:
    """One launch of workers.

    Attributes:
        benchmarks: Benchmarks to ask.
        workers: Number of workers.
        stage: How often the number of workers has been halved.
        reason: Message for the user on why it is made; may be empty.
    """

    benchmarks: Sequence[Benchmark]
    workers: int
    stage: int
    reason: str = ""


@dataclass
class Launches:
    """The sequence of decisions for one run.

    Attributes:
        workers: Number of workers of the next launch, on the machine that has most.
        shared: Whether another machine may have more, so that one worker is not the last stage.
        stage: How often the number has been halved.
    """

    workers: int
    shared: bool = False
    stage: int = 0
    _answered: int | None = None  # ``Standing.answered`` at the last start; None before the first
    # Benchmarks that still get a launch of their own; None as long as all are launched together.
    _alone: list[Benchmark] | None = field(default=None)

    @property
    def final(self) -> bool:
        """Whether questions that lack memory are not asked again with more."""
        return self.workers == 1 and not self.shared

    def next(self, standing: Standing) -> Launch | None:
        """Return the next launch, or None if nothing is left or another one would not help."""
        if not standing.left:
            return None
        if standing.lacked_memory and not self.final:
            return self._with_more_memory(standing)
        before, self._answered = self._answered, standing.answered
        if before is None:
            return Launch(standing.left, self.workers, self.stage)
        if standing.answered > before and self._alone is None:
            return Launch(
                standing.left,
                self.workers,
                self.stage,
                "the workers ended before all questions were answered; starting them again",
            )
        bench = self._next_alone(standing)
        if bench is None:
            return None
        return Launch(
            [bench],
            self.workers,
            self.stage,
            f"the workers ended before all questions were answered; now {bench.title} in a "
            f"separate launch",
        )

    def _with_more_memory(self, standing: Standing) -> Launch:
        self.workers, self.stage = max(1, self.workers // 2), self.stage + 1
        self.shared = self.shared and self.workers > 1
        titles = ", ".join(bench.title for bench in standing.left)
        return Launch(
            standing.left,
            self.workers,
            self.stage,
            f"out of memory on some questions of {titles}; asking them again with fewer workers",
        )

    def _next_alone(self, standing: Standing) -> Benchmark | None:
        # The last launch had all unanswered benchmarks together.
        if self._alone is None:
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
