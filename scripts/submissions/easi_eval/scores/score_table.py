"""Scores as plain data, 0-100: the reading of each benchmark, and the score table of a run.

This module does not use files or pandas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from ..benchmarks import ALL_KEYS, CORE_KEYS, GROUPS, Group, by_key, group_by_key, headline_keys
from .interval import Interval, weighted_mean

N = TypeVar("N", int, float)

AVERAGE = "easi8_average"


class State(StrEnum):
    """The state of a benchmark. Only COMPLETE counts for the average and may be submitted."""

    COMPLETE = "complete"
    PARTIAL = "partial"  # finished under --limit, so only part of the benchmark
    INCOMPLETE = "incomplete"  # some items are not answered
    FAILED = "failed"
    MISSING = "missing"  # there are no results


@dataclass(frozen=True)
class Reading:
    """Headline and sub-scores of one benchmark, 0-100; a chance-adjusted accuracy may be negative.

    Attributes:
        overall: The headline; None if there is none.
        parts: Sub-scores by name; None for one that was not produced.
        why_missing: Why a value is None, by sub-score; "" is the key for the headline.
    """

    overall: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    why_missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """The sums behind a chance-adjusted accuracy (CAA) of a set of questions.

    CAA = points / weight (SITE, https://arxiv.org/abs/2505.05456). Sets of questions are pooled by
    adding their sums.

    Attributes:
        points: sum(score - 1/n), n = number of options.
        weight: sum(1 - 1/n).
    """

    points: float
    weight: float

    def __add__(self, other: Pool) -> Pool:
        return Pool(self.points + other.points, self.weight + other.weight)

    @property
    def caa(self) -> float | None:
        """The chance-adjusted accuracy, 0-100; None if every question has only one option."""
        return 100 * self.points / self.weight if self.weight else None


@dataclass(frozen=True)
class BenchmarkScore:
    """One benchmark's line of the score table. Counts are None where they cannot be known.

    Attributes:
        key: Key of the benchmark.
        reading: The scores.
        n: Number of questions in the result.
        total: Number of questions in the dataset.
        state: How far the benchmark got.
        reason: Why it is not complete.
        unparsed: Number of answers that the backend could not read.
        failed: Number of questions without an answer.
        truncated: Number of answers that ended at the token limit.
        coin_flips: Number of answers that were replaced by a random letter.
        pools: Only for members of a group: what the group's score is pooled from, by sub-score; ""
            is the key for all questions.
        method: How answers were read where there is a choice (``exact_matching`` or the judge's
            name), or which value counts where there is a correction (``corrected``, ``stock``);
            else "".
        by_method: The reading by every method that was tried, including ``reading``.
        notes: Remarks to show with the score in the table, the manifest and the submission.
        comparable: Whether the score may be compared with older rows of the leaderboard (``yes``,
            ``note`` or ``no``, see ``comparability.py``); "" if that was not determined.
        cut: Number of answers of which the model class kept only the beginning.
        warnings: Warnings about the answers, shown above the table (``canaries.py``).
        seconds: Time of answering (``JournalState.answering_time``).
        tokens: Number of tokens that the model generated.
        intervals: Interval of each sub-score; "" is the key for the headline. Empty if the rows
            were not at hand.
        draws: Bootstrap draws of the headline, and of the sub-scores of a group's member, for the
            intervals of means over benchmarks (see ``interval.py``).
    """

    key: str
    reading: Reading
    n: int
    total: int | None
    state: State
    reason: str = ""
    unparsed: int | None = None
    failed: int = 0
    truncated: int | None = None
    coin_flips: int | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)
    method: str = ""
    by_method: Mapping[str, Reading] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    comparable: str = ""
    cut: int = 0
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    tokens: int | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    draws: Mapping[str, str] = field(default_factory=dict)


def missing(key: str, reason: str, state: State = State.MISSING) -> BenchmarkScore:
    """Return the line of a benchmark without scores."""
    return BenchmarkScore(
        key, Reading(None, {}, {"": reason}), n=0, total=None, state=state, reason=reason
    )


def sum_known(counts: Iterable[N | None]) -> N | None:
    """Return the sum, or None if a summand is unknown."""
    known = list(counts)
    return None if None in known else sum((count for count in known if count is not None), 0)


def _worst(states: Iterable[State]) -> State:
    return max(states, key=list(State).index)


def combine(group: Group, rows: Mapping[str, BenchmarkScore]) -> BenchmarkScore:
    """Return the line of a group, pooled from the lines of all its members.

    It has no score until every member has one and all are read by the same method.
    """
    members = [rows.get(key) or missing(key, "not run") for key in group.members]
    lacking = [row.key for row in members if "" not in row.pools]
    alike = len({row.method for row in members if row.pools}) < 2
    whys = [f"{row.key}: {row.reason}" for row in members if row.reason]
    intervals: dict[str, Interval] = {}
    draws: dict[str, str] = {}
    parts: dict[str, float | None] = {part.name: None for part in group.parts}
    why: dict[str, str] = {}
    overall: float | None = None
    if lacking or not alike:
        reason = (
            f"needs {' and '.join(lacking)}"
            if lacking
            else f"not scored alike: {', '.join(f'{row.key} by {row.method}' for row in members)}"
        )
        why = dict.fromkeys(("", *parts), reason)
        whys = whys or [reason]
    else:
        overall = _pooled(members, "")
        for name in parts:
            parts[name] = _pooled(members, name)
            if parts[name] is None:
                why[name] = "no question of this kind was asked"
        for name, value in {"": overall, **parts}.items():
            if value is not None and (found := _pooled_interval(members, name, value)):
                intervals[name], draws[name] = found
    state = _worst(row.state for row in members)
    if not alike or (lacking and state is State.MISSING and len(lacking) < len(members)):
        state = State.INCOMPLETE  # some members have results
    return BenchmarkScore(
        key=group.key,
        reading=Reading(overall, parts, why),
        n=sum(row.n for row in members),
        total=sum_known(row.total for row in members),
        state=state,
        reason="; ".join(whys),
        unparsed=sum_known(row.unparsed for row in members),
        failed=sum(row.failed for row in members),
        truncated=sum_known(row.truncated for row in members),
        coin_flips=sum_known(row.coin_flips for row in members),
        seconds=sum_known(row.seconds for row in members),
        tokens=sum_known(row.tokens for row in members),
        method=members[0].method if alike else "",
        by_method={} if lacking or not alike else _by_method(members, list(parts)),
        comparable=max((row.comparable for row in members), key=("", "yes", "note", "no").index),
        intervals=intervals,
        draws=draws,
        # If the members differ in method, each may be complete, and only this note says what is
        # wrong.
        notes=() if lacking or alike else (reason,),
    )


def _by_method(members: Iterable[BenchmarkScore], names: Iterable[str]) -> dict[str, Reading]:
    """Return the pooled reading for each method that all members were read by."""
    rows = list(members)
    common = [
        method for method in rows[0].by_method if all(method in row.by_method for row in rows)
    ]
    found = {}
    for method in common:
        read = [
            replace(
                row,
                pools={name: _pool_by(row, method, name, pool) for name, pool in row.pools.items()},
            )
            for row in rows
        ]
        found[method] = Reading(_pooled(read, ""), {name: _pooled(read, name) for name in names})
    return found


def _pool_by(row: BenchmarkScore, method: str, name: str, pool: Pool) -> Pool:
    """Return the pool that belongs to the reading by another method.

    The weight of the questions does not depend on the method, so points follow from the score.
    """
    read = row.by_method[method]
    value = read.parts.get(name) if name else read.overall
    return (
        pool
        if value is None or method == row.method
        else Pool(value * pool.weight / 100, pool.weight)
    )


def _pooled(members: Iterable[BenchmarkScore], name: str) -> float | None:
    pools = [row.pools[name] for row in members if name in row.pools]
    return sum(pools, Pool(0.0, 0.0)).caa if pools else None


def _pooled_interval(
    members: Iterable[BenchmarkScore], name: str, value: float
) -> tuple[Interval, str] | None:
    """Return interval and draws of a pooled score, None if a member has none.

    It is the mean of the members' scores weighted by their pools.
    """
    having = [row for row in members if name in row.pools]
    if any(name not in row.draws for row in having):
        return None
    return weighted_mean(
        value, [(row.pools[name].weight, row.intervals[name], row.draws[name]) for row in having]
    )


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all benchmarks of one model on one backend, in registry order.

    Attributes:
        rows: One line per benchmark.
        model: Name of the model.
        backend: The backend.
        identity: Identifies the model and the settings that affect answers.
        versions: Version by library, as in the manifest.
        date: UTC time at which workers were started last; "" if the run does not tell.
        rehearsal: The questions and the model are made up.
    """

    rows: tuple[BenchmarkScore, ...]
    model: str
    backend: str
    identity: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    rehearsal: bool = False

    def __post_init__(self) -> None:
        order = {key: place for place, key in enumerate(ALL_KEYS)}
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=lambda row: order[row.key])))

    def row(self, key: str) -> BenchmarkScore | None:
        """Return the line of one benchmark, None if it is not in the table."""
        return next((row for row in self.rows if row.key == key), None)

    @cached_property
    def headlines(self) -> tuple[BenchmarkScore, ...]:
        """One line per leaderboard key: a group takes the place of its members."""
        by = {row.key: row for row in self.rows}
        groups = {group.key for group in GROUPS}
        return tuple(
            combine(group_by_key(key), by) if key in groups else by[key]
            for key in headline_keys(by)
        )

    @property
    def easi8_average(self) -> float | None:
        """The mean of the eight headline scores, in which SITE counts once.

        None unless all nine core benchmarks are complete.
        """
        done = {row.key for row in self.rows if row.state is State.COMPLETE}
        if not done.issuperset(CORE_KEYS):
            return None
        values = [value for row in self._eight if (value := row.reading.overall) is not None]
        return sum(values) / len(values) if len(values) == len(self._eight) else None

    @cached_property
    def average_interval(self) -> Interval | None:
        """The interval of ``easi8_average``, from the draws of all eight benchmarks at once."""
        average = self.easi8_average
        if average is None or any("" not in row.draws for row in self._eight):
            return None
        parts = [(1.0, row.intervals[""], row.draws[""]) for row in self._eight]
        return weighted_mean(average, parts)[0]

    @cached_property
    def intervals(self) -> dict[str, Mapping[str, Interval]]:
        """All intervals by benchmark, group or AVERAGE, then by sub-score ("": headline)."""
        found = {row.key: row.intervals for row in (*self.rows, *self.headlines)}
        return {**found, AVERAGE: {"": self.average_interval} if self.average_interval else {}}

    @property
    def _eight(self) -> list[BenchmarkScore]:
        return [row for row in self.headlines if row.key in headline_keys(CORE_KEYS)]

    def lacking(self, keys: Iterable[str] = CORE_KEYS) -> tuple[str, ...]:
        """Return those of ``keys`` that are not complete.

        If all members of a group are complete but cannot be combined, they count as not complete.
        """
        done = {row.key for row in self.rows if row.state is State.COMPLETE}
        complete = {row.key for row in self.headlines if row.state is State.COMPLETE}
        apart = {
            key
            for group in GROUPS
            if group.key not in complete and done.issuperset(group.members)
            for key in group.members
        }
        return tuple(key for key in keys if key not in done - apart)


def title_of(key: str) -> str:
    """Return the title of a benchmark or a group, for users."""
    groups = {group.key: group.title for group in GROUPS}
    return groups.get(key) or by_key(key).title


_POINTS = 10


_STEP = (0.95 - 0.5) / (_POINTS - 1)


# The values of theta for the mean relative accuracy: 0.50, 0.55, ..., 0.95. They are computed as
# numpy.linspace does, so that rounding errors are the same.
_THETAS = (*(at * _STEP + 0.5 for at in range(_POINTS - 1)), 0.95)


def mean_relative_accuracy(predicted: float, target: float) -> float:
    """Return the mean relative accuracy of a number, 0-1.

    It is the share of theta = 0.50, 0.55, ..., 0.95 for which |predicted - target| / |target| <= 1
    - theta (VSI-Bench, https://arxiv.org/abs/2412.14171). For a target of 0 the backends compare
    the absolute difference instead.
    """
    error = abs(predicted - target) if target == 0.0 else abs((predicted - target) / target)
    return sum(error <= 1 - theta for theta in _THETAS) / _POINTS
