"""The report's charts as static SVG: shapes without text, stretched to the width of their place.

Words and numbers stand beside them as text, so that they keep their size on a narrow screen and are
read aloud. Colours come from the style sheet, by class.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape

WIDTH = 1000  # of every drawing, in its own units
LANE = 14  # height of a worker's line
PARTS = 500  # of the time axis; shorter pauses are not seen
HUES = 13  # classes c0, c1, ... in the style sheet


def _svg(shapes: Iterable[str], height: int, title: str, cls: str = "") -> str:
    return (
        f'<svg class="chart {cls}" viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"{''.join(shapes)}</svg>"
    )


def _rect(cls: str, left: float, width: float, top: float, height: float) -> str:
    return (
        f'<rect class="{cls}" x="{left:.1f}" y="{top:g}" width="{max(width, 1):.1f}" '
        f'height="{height:g}"/>'
    )


def _line(cls: str, left: float, right: float, top: float, bottom: float) -> str:
    return f'<path class="{cls}" d="M{left:.1f} {top:g}L{right:.1f} {bottom:g}"/>'


def score_bar(
    score: float,
    interval: tuple[float, float] | None,
    chance: float | None,
    lowest: float = 0.0,
    title: str = "",
) -> str:
    """Return a bar from 0 to the score, its interval, and a mark where chance is.

    The axis goes from ``lowest`` (0, or less where scores may be negative) to 100.
    """

    def at(value: float) -> float:
        return WIDTH * (min(max(value, lowest), 100.0) - lowest) / (100.0 - lowest)

    left, right = sorted((at(0), at(score)))
    shapes = [_rect("value", left, right - left, 5, 10)]
    shapes += [_line("grid", at(value), at(value), 0, 20) for value in (25, 50, 75)]
    if lowest < 0:
        shapes.append(_line("zero", at(0), at(0), 0, 20))
    if chance is not None:
        shapes.append(_line("chance", at(chance), at(chance), 0, 20))
    if interval is not None:
        low, high = map(at, interval)
        shapes += _interval(low, high, (low, high))
    return _svg(shapes, 20, title)


def _interval(low: float, high: float, marks: Iterable[float]) -> list[str]:
    """Return a line between two places, and the marks of its ends."""
    return [
        _line("interval", low, high, 10, 10),
        *(_line("interval", mark, mark, 6, 14) for mark in marks),
    ]


def timeline(
    lanes: Sequence[tuple[str, Sequence[tuple[float, float, int]]]], end: float, title: str
) -> list[tuple[str, str]]:
    """Return each worker's line: when it answered, coloured by benchmark.

    Args:
        lanes: Name and answers of each worker: begin, end and number of the benchmark.
        end: The end of the axis; it begins at 0.
        title: What the drawing shows, for those who do not see it.
    """
    step = end / PARTS or 1.0
    drawn = []
    for name, answers in lanes:
        shapes = [_rect("lane", 0, WIDTH, 0, LANE)]
        for began, ended, number in _joined(answers, step):
            left, width = WIDTH * began / (step * PARTS), WIDTH * (ended - began) / (step * PARTS)
            shapes.append(_rect(f"c{number % HUES}", left, width, 0, LANE))
        drawn.append((name, _svg(shapes, LANE, f"{title}: {name}", "lane")))
    return drawn


def _joined(
    answers: Iterable[tuple[float, float, int]], step: float
) -> list[tuple[float, float, int]]:
    """Join answers to the same benchmark that are less than a step apart."""
    joined: list[tuple[float, float, int]] = []
    last: dict[int, int] = {}
    for began, ended, number in sorted(answers):
        place = last.get(number)
        if place is not None and began - joined[place][1] < step:
            joined[place] = (joined[place][0], max(ended, joined[place][1]), number)
        else:
            last[number] = len(joined)
            joined.append((began, ended, number))
    return joined


def lengths(values: Sequence[int], longest: int, title: str) -> str:
    """Return how long answers are: 5 to 95 % as a line, the middle half as a box, the median.

    The axis is logarithmic, from 1 to ``longest``.
    """
    ordered = sorted(values)

    def at(share: float) -> float:
        value = ordered[min(int(share * len(ordered)), len(ordered) - 1)]
        return WIDTH * math.log(max(value, 1)) / math.log(max(longest, 2))

    shapes = [
        _line("grid", where, where, 0, 20)
        for power in range(1, 7)
        if (where := WIDTH * power * math.log(10) / math.log(max(longest, 2))) < WIDTH
    ]
    shapes += [
        _line("whisker", at(0.05), at(0.95), 10, 10),
        _rect("value", at(0.25), at(0.75) - at(0.25), 5, 10),
        _line("interval", at(0.5), at(0.5), 3, 17),
    ]
    return _svg(shapes, 20, title)


def lanes_of(
    answers: Iterable[tuple[str, float, float, int]], most: int
) -> tuple[list[tuple[str, list[tuple[float, float, int]]]], float]:
    """Return the lines of a timeline, without the pauses in which nobody answered.

    Args:
        answers: Worker, end, seconds and number of the benchmark of each answer.
        most: Number of lines; the workers beyond it are left out.

    Returns:
        The lines, and the end of the axis.
    """
    spans = sorted((end - seconds, end, worker, number) for worker, end, seconds, number in answers)
    by_worker: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    latest = spans[0][0] if spans else 0.0
    gone = latest
    for began, ended, worker, number in spans:
        if began > latest + 600:  # between two launches
            gone += began - latest
        latest = max(latest, ended)
        by_worker[worker].append((max(began - gone, 0.0), ended - gone, number))
    order = sorted(by_worker, key=lambda name: (len(name), name))
    return [(name, by_worker[name]) for name in order[:most]], latest - gone


def difference_bar(
    value: float, interval: tuple[float, float] | None, most: float, title: str
) -> str:
    """Return a bar from 0 to a difference and its interval.

    The axis goes from ``-most`` to ``most``; an interval that goes on has no mark at its end.
    """

    def at(points: float) -> float:
        return WIDTH * (min(max(points, -most), most) + most) / (2 * most)

    left, right = sorted((at(0), at(value)))
    shapes = [
        _rect("value", left, right - left, 5, 10),
        *(_line("grid", at(end / 2), at(end / 2), 0, 20) for end in (-most, most)),
        _line("zero", at(0), at(0), 0, 20),
    ]
    if interval is not None:
        low, high = map(at, interval)
        shapes += _interval(low, high, (at(end) for end in interval if abs(end) <= most))
    return _svg(shapes, 20, title)
