"""Measure how evenly the real queue shares the work, on a simulated clock.

The measure is the makespan over its lower bound.

    .venv/bin/python tests/benchmarks/stragglers.py [--draws 20] [--count 2000] [--workers 8]

2,000 questions in nine benchmarks, with lognormal seconds and with costs that explain half of the
variance of the logarithm, or none of it. The stock static split of the same questions is printed
beside it. 1.00 is max(total / workers, longest question).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from draws import completed_by, draw, median, static_split
from simulate import simulate


@dataclass(frozen=True)
class Case:
    """Medians over the draws.

    Times are over the bound; of the benchmarks complete at 80 % of the time, median and least are
    given.
    """

    sigma: float
    known: float
    ours: float
    worst: float
    static: float
    static_barriers: float
    complete: float
    complete_least: int


def measure(
    sigma: float, known: float, draws: int, count: int, workers: int, mean: float = 0.2
) -> Case:
    ours, static, barriers, complete = [], [], [], []
    for seed in range(draws):
        drawn = draw(seed, count, mean, sigma, known)
        bound, schedule = drawn.bound(workers), simulate(drawn, workers)
        ours.append(schedule.makespan / bound)
        static.append(static_split(drawn, workers, barriers=False) / bound)
        barriers.append(static_split(drawn, workers, barriers=True) / bound)
        complete.append(completed_by(schedule.ends, drawn, 0.8 * schedule.makespan))
    return Case(
        sigma,
        known,
        median(ours),
        max(ours),
        median(static),
        median(barriers),
        median(complete),
        min(complete),
    )


def table(cases: list[Case]) -> str:
    lines = [
        "| sigma | variance known | ours | worst draw | stock split | stock split, "
        "a meeting per benchmark | complete at 80 %: median | least |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {case.sigma:g} | {case.known:g} | {case.ours:.3f} | {case.worst:.3f} | "
        f"{case.static:.3f} | {case.static_barriers:.3f} "
        f"| {case.complete:g} of 9 | {case.complete_least} |"
        for case in cases
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    print(
        table(
            [
                measure(sigma, known, args.draws, args.count, args.workers)
                for sigma in (1.0, 1.5)
                for known in (0.5, 0.0)
            ]
        )
    )


if __name__ == "__main__":
    main()
