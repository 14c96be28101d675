"""Scores as plain data, 0-100: what was read for each benchmark, and what the whole table says. No files, no pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..benchmarks import (
    ALL_KEYS,
    CORE_KEYS,
    GROUPS,
    Group,
    by_key,
    group_by_key,
    headline_keys,
)


class State(StrEnum):
    """How far a benchmark got. Only COMPLETE counts for the average and may be submitted."""

    COMPLETE = "complete"
    PARTIAL = "partial"  # done as asked under --limit, which is never the benchmark
    INCOMPLETE = "incomplete"  # some items are not answered
    FAILED = "failed"
    MISSING = "missing"  # nothing of it is there


@dataclass(frozen=True)
class Reading:
    """Headline and sub-scores of one benchmark, 0-100 (CAA may be negative). None: not produced, see ``why_missing``.

    ``why_missing`` has the reason by sub-score, under ``""`` for the headline. Zero is a score.
    """

    overall: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    why_missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """What a chance-adjusted accuracy is made of: sum(score - 1/n) and sum(1 - 1/n), n = number of options.

    Source: SITE, https://arxiv.org/abs/2505.05456; pools of several sets of questions are pooled by adding.
    """

    points: float
    weight: float

    def __add__(self, other: Pool) -> Pool:
        return Pool(self.points + other.points, self.weight + other.weight)

    @property
    def caa(self) -> float | None:
        """0-100; None if every question has one option."""
        return 100 * self.points / self.weight if self.weight else None


@dataclass(frozen=True)
class BenchmarkScore:
    """One benchmark's line of the table. Counts are None where they cannot be known; ``total`` is what the dataset has.

    ``pools`` (members of a group only): by sub-score name, ``""`` for all questions; what the group's score is pooled from.
    ``method``: how the answers were read where there is a choice (``exact_matching``, or the judge's name), else "";
    ``by_method``: the reading by every method that was tried, ``reading`` among them. ``notes``: what has to be said beside
    the number in table, manifest and remarks, a line each; ``cut``: answers of which the model class was seen to keep the beginning
    only; ``warnings``: what is suspicious about its answers, to be said above the numbers (``canaries.py``). ``comparable``: whether the line may stand beside older rows of the
    leaderboard (``yes``, ``note``, ``no``; see ``comparability.py``), "" if nobody asked.
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


def missing(key: str, reason: str, state: State = State.MISSING) -> BenchmarkScore:
    """The line of a benchmark that has no numbers."""
    return BenchmarkScore(
        key, Reading(None, {}, {"": reason}), n=0, total=None, state=state, reason=reason
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _worst(states: Iterable[State]) -> State:
    return max(states, key=list(State).index)


def combine(group: Group, rows: Mapping[str, BenchmarkScore]) -> BenchmarkScore:
    """The line of a group, pooled from the rows of all its members; without a score until every member has one."""
    members = [rows.get(key) or missing(key, "not run") for key in group.members]
    lacking = [row.key for row in members if "" not in row.pools]
    alike = len({row.method for row in members if row.pools}) < 2
    whys = [f"{row.key}: {row.reason}" for row in members if row.reason]
    parts: dict[str, float | None] = {part.name: None for part in group.parts}
    why: dict[str, str] = {}
    overall: float | None = None
    if lacking or not alike:
        reason = (
            f"needs {' and '.join(lacking)}"
            if lacking
            else f"not read alike: {', '.join(f'{row.key} by {row.method}' for row in members)}"
        )
        why = dict.fromkeys(("", *parts), reason)
        whys = whys or [reason]
    else:
        overall = _pooled(members, "")
        for name in parts:
            parts[name] = _pooled(members, name)
            if parts[name] is None:
                why[name] = "no question of this kind was asked"
    state = _worst(row.state for row in members)
    if not alike or (lacking and state is State.MISSING and len(lacking) < len(members)):
        state = State.INCOMPLETE  # one half is there
    return BenchmarkScore(
        key=group.key,
        reading=Reading(overall, parts, why),
        n=sum(row.n for row in members),
        total=_sum(row.total for row in members),
        state=state,
        reason="; ".join(whys),
        unparsed=_sum(row.unparsed for row in members),
        failed=sum(row.failed for row in members),
        truncated=_sum(row.truncated for row in members),
        coin_flips=_sum(row.coin_flips for row in members),
        method=members[0].method if alike else "",
        by_method={} if lacking or not alike else _by_method(members, list(parts)),
        comparable=max((row.comparable for row in members), key=("", "yes", "note", "no").index),
        notes=()
        if lacking or alike
        else (reason,),  # each member is complete, and nothing else would say it
    )


def _by_method(members: Iterable[BenchmarkScore], names: Iterable[str]) -> dict[str, Reading]:
    """The pooled reading by each method that all members were read with."""
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
    """The pool behind a chance-adjusted score: how much the questions weigh is the same whoever reads the answers."""
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


@dataclass(frozen=True)
class ScoreTable:
    """All benchmarks of one model on one backend under one ``identity``, in registry order."""

    rows: tuple[BenchmarkScore, ...]
    model: str
    backend: str
    identity: str = ""

    def __post_init__(self) -> None:
        order = {key: place for place, key in enumerate(ALL_KEYS)}
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=lambda row: order[row.key])))

    def row(self, key: str) -> BenchmarkScore | None:
        return next((row for row in self.rows if row.key == key), None)

    @property
    def headlines(self) -> tuple[BenchmarkScore, ...]:
        """One line per leaderboard key: the members of a group are replaced by the group."""
        by = {row.key: row for row in self.rows}
        groups = {group.key for group in GROUPS}
        return tuple(
            combine(group_by_key(key), by) if key in groups else by[key]
            for key in headline_keys(by)
        )

    @property
    def easi8_average(self) -> float | None:
        """Mean of the eight headline scores (SITE counts once); None unless all nine core benchmarks are complete."""
        done = {row.key for row in self.rows if row.state is State.COMPLETE}
        if not done.issuperset(CORE_KEYS):
            return None
        eight = [
            row.reading.overall for row in self.headlines if row.key in headline_keys(CORE_KEYS)
        ]
        values = [value for value in eight if value is not None]
        return sum(values) / len(values) if len(values) == len(eight) else None

    def lacking(self, keys: Iterable[str] = CORE_KEYS) -> tuple[str, ...]:
        """Those of ``keys`` that are not complete; of a group whose complete members do not fit together, the members."""
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
    """For people; of a benchmark or a group."""
    groups = {group.key: group.title for group in GROUPS}
    return groups.get(key) or by_key(key).title
