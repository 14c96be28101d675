"""Runs compared question by question: differences, what is certain of them, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from ..benchmarks import CORE_KEYS, GROUPS, Group, Part, Source, headline_keys, part_title
from ..scores import paired
from ..scores.interval import SCALE
from ..scores.paired import Difference, Questions
from ..scores.report import between
from ..scores.score_table import title_of
from .compare_pairs import Pairs, pair
from .compare_settings import Caution, benchmark_cautions, run_cautions
from .evaluated import EvaluatedBenchmark, EvaluatedRun
from .subject import type_titles

if TYPE_CHECKING:
    import pandas as pd

AVERAGE = "average"
# Steps, in points, for how far apart scores of one model through two backends are.
CLOSE, NEAR = 2.5, 5.0
NAMED = 3  # benchmarks of a reason, categories of a loss; of more only the number is said
NOTICED = 0.005  # a difference that two decimals show


@dataclass(frozen=True)
class ComparedScore:
    """One score of two runs, over the questions in both.

    Attributes:
        key: Benchmark or group, or AVERAGE.
        part: Sub-score; "" for the headline.
        title: What users read.
        level: 0 for what counts on the leaderboard, 1 for a half of SITE, 2 for a sub-score.
        difference: Both scores and their difference; None if there is no question to compare.
        p: p-value, adjusted for the number of lines of the same level.
        category: Whether it is a sub-score of single questions of some kind, not all questions or
            sets of them, read in another way.
    """

    key: str
    part: str
    title: str
    level: int
    difference: Difference | None
    p: float = 1.0
    category: bool = False

    @property
    def certain(self) -> bool:
        """Whether the runs are told apart: the interval and the adjusted p-value agree."""
        found = self.difference
        return (
            found is not None
            and self.p <= paired.LEVEL
            and (found.low > 0 or found.high < 0 or found.error == 0)
        )

    @property
    def ahead(self) -> int:
        """1 if the second run is certainly ahead, -1 if the first one is, 0 if neither is."""
        return (1 if self.difference.value > 0 else -1) if self.certain and self.difference else 0

    def verdict(self, names: tuple[str, str] = ("A", "B")) -> str:
        """Say in words what is known."""
        found = self.difference
        if found is None:
            return "no question in both"
        if not found.changed:
            return f"no difference: {_all(found.n)} scored alike"
        if sign := self.ahead:
            ahead = names[sign > 0]
            ends = sorted(sign * end for end in found.ends or ())
            within = f" ({between((ends[0], ends[1]))})" if ends else ""
            return f"{ahead} is ahead by {sign * found.value:.1f}{within}"
        if not found.error > 0:
            return "not distinguishable: too few questions, or all of one scene"
        if found.ends is None or found.detectable > SCALE:
            return "not distinguishable: too few questions"
        if abs(found.value) >= found.detectable or found.low > 0 or found.high < 0:
            return "not distinguishable, given how many scores are compared"
        return (
            f"not distinguishable; differences under {found.detectable:.1f} would often be missed"
        )


def _in(titles: Sequence[str]) -> str:
    """Return the benchmarks something is about; "" if it is about the runs as a whole."""
    if len(titles) > NAMED:
        return f" in {len(titles)} benchmarks"
    return f" in {', '.join(titles)}" if titles else ""


def _all(count: int) -> str:
    return "the question is" if count == 1 else f"all {count:,} questions are"


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        first: The run that is compared with.
        second: The run that is looked at.
        lines: Every score, benchmark by benchmark; the average is the last one.
        pairs: The questions in both, by benchmark.
        cautions: Why the runs may not be comparable.
        name: The letter of the second run; the first one is A.
    """

    first: EvaluatedRun
    second: EvaluatedRun
    lines: tuple[ComparedScore, ...]
    pairs: Mapping[str, Pairs]
    cautions: tuple[Caution, ...]
    name: str = "B"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The cautions in words."""
        return tuple(map(str, self.cautions))

    @property
    def headlines(self) -> tuple[ComparedScore, ...]:
        """One line per benchmark of the leaderboard, without the average."""
        return tuple(line for line in self.lines if line.level == 0 and line.key != AVERAGE)

    @property
    def compared(self) -> tuple[ComparedScore, ...]:
        """The headlines of benchmarks that have questions in both runs."""
        return tuple(line for line in self.headlines if line.difference)

    @property
    def average(self) -> ComparedScore | None:
        """The line of the average."""
        return next((line for line in self.lines if line.key == AVERAGE), None)

    @property
    def main(self) -> ComparedScore | None:
        """The average, else the first benchmark that is compared."""
        return self.average or next(iter(self.compared), None)

    @property
    def apart(self) -> str:
        """Why the runs are not comparable, in a few words; "" if they are."""
        found: dict[str, list[str]] = {}
        for caution in self.cautions:
            if caution.decides:
                found.setdefault(caution.kind, []).append(caution.title)
        # "" is the title of what is about the runs as a whole.
        return "; ".join(
            f"{kind}{'' if '' in titles else _in(titles)}" for kind, titles in found.items()
        )

    @property
    def overall(self) -> str:
        """Both runs in a sentence or two: first of all that they are not comparable."""
        if not self.apart:
            return self._ahead
        return f"Not comparable ({self.apart}): a difference need not be the model's. {self._ahead}"

    @property
    def _ahead(self) -> str:
        line = self.main
        if line is None:
            return "No question is in both runs."
        said = [f"{line.title}: {line.verdict()}"]
        for name, sign in (("A", -1), ("B", 1)):
            titles = [one.title for one in self.headlines if one.ahead == sign]
            if titles and line is self.average:
                said.append(f"{name} is significantly ahead in {', '.join(titles)}")
        if not any(one.ahead for one in self.headlines) and line is self.average:
            said.append(f"none of the {len(self.compared)} benchmarks differs significantly")
        if lost := self._lost:
            more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
            names = ", ".join(lost[:NAMED])
            said.append(f"categories in which B is significantly worse: {names}{more}")
        return f"{'; '.join(said)}."

    @property
    def _lost(self) -> list[str]:
        """The categories in which the second run is certainly worse, the largest loss first."""
        lost = [
            (one.difference.value, one) for one in self.lines if one.difference and one.ahead < 0
        ]
        return [
            f"{one.title} ({title_of(one.key)})"
            for _, one in sorted(lost, key=itemgetter(0))
            if one.category
        ]

    @property
    def lacking(self) -> tuple[str, ...]:
        """Benchmarks that only the first run has."""
        return tuple(key for key in self.first.benchmarks if key not in self.second.benchmarks)

    @property
    def same_model(self) -> bool:
        """Whether one model was evaluated in both."""
        names = {run.manifest.modelName.strip().casefold() for run in (self.first, self.second)}
        return len(names) == 1

    @property
    def other_backend(self) -> bool:
        """Whether the runs are of different backends."""
        return self.first.backend != self.second.backend

    def type_titles(self, key: str) -> dict[str, str]:
        """Return what the types of a benchmark's questions are called."""
        parts = self.first.benchmarks[key].source.parts
        return type_titles(key, {part.name: part.types for part in parts})

    def flips(self, key: str) -> pd.DataFrame:
        """Return the questions of a benchmark that are scored differently, as in ``Pairs``."""
        both = self.pairs[key].both
        return both[both["first"] != both["second"]]


def compare(first: EvaluatedRun, second: EvaluatedRun, name: str = "B") -> Comparison:
    """Compare the benchmarks that both runs have.

    Args:
        first: The run that is called A.
        second: The other one.
        name: The letter of the second run.
    """
    pairs = {
        key: pair(one, second.benchmarks[key])
        for key, one in first.benchmarks.items()
        if key in second.benchmarks
    }
    lines = list(_lines(first, second, pairs))
    heads = [line for line in lines if line.level == 0 and line.difference is not None]
    if len(heads) > 1:
        lines.append(_average(heads))
    cautions = [
        *run_cautions(first, second, name),
        *(
            caution
            for key, found in pairs.items()
            for caution in _pair_cautions(
                first.benchmarks[key], second.benchmarks[key], found, name
            )
        ),
        *_other_scores(first, "A", lines, attrgetter("first")),
        *_other_scores(second, name, lines, attrgetter("second")),
    ]
    return adjusted([Comparison(first, second, tuple(lines), pairs, tuple(cautions), name)])[0]


def _pair_cautions(
    first: EvaluatedBenchmark, second: EvaluatedBenchmark, pairs: Pairs, name: str
) -> Iterator[Caution]:
    """Yield which questions of a benchmark are not compared, and what else differs."""
    title = first.bench.title
    counts = [
        f"{count:,} only in {letter}"
        for letter, count in (("A", pairs.only_first), (name, pairs.only_second))
        if count
    ]
    if not len(pairs.both):
        yield Caution(QUESTIONS, "or in another order; none could be paired", title)
    elif counts:
        yield Caution(
            QUESTIONS,
            f"{' and '.join(counts)}; compared are the {len(pairs.both):,} in both"
            + (_VARIANTS if not pairs.same_source and _same_but_variants(first, second) else ""),
            title,
        )
    if pairs.other_key:
        yield Caution(
            "not the same answer key",
            f"{pairs.other_key:,} questions have another right answer in {name} and are left out",
            title,
        )
    if first.source.recompute != second.source.recompute:
        ways = [_WAYS[one.source.recompute] for one in (first, second)]
        yield Caution(
            "averaged in different ways",
            f"A {ways[0]}, {name} {ways[1]}; compared is the mean over questions",
            title,
            decides=False,
        )
    yield from benchmark_cautions(first, second, name, same_source=pairs.same_source)


QUESTIONS = "not the same questions"
_VARIANTS = (
    "; the others are variants of these (flipped image, options in another order) that only one "
    "backend asks"
)
_WAYS = {
    "mean": "over questions",
    "type_mean": "over the means of kinds of questions",
    "part_mean": "over the means of sub-scores",
    "caa": "adjusted for chance",
}


def _same_but_variants(first: EvaluatedBenchmark, second: EvaluatedBenchmark) -> bool:
    """Whether two runs differ only in which variants of the same questions they asked."""
    from ..scores.row_table import SETS

    asked = [{*map(SETS["flip_circular"], one.rows["variant"])} for one in (first, second)]
    return asked[0] == asked[1] != {""}


def own_scores(run: EvaluatedRun) -> dict[str, float | None]:
    """Return the headlines of a run's score table by key, with the average if it has one."""
    table = run.table
    found = {row.key: row.reading.overall for row in (*table.rows, *table.headlines)}
    return {**found, AVERAGE: table.easi8_average}


def _other_scores(
    run: EvaluatedRun,
    letter: str,
    lines: Iterable[ComparedScore],
    score: Callable[[Difference], float],
) -> Iterator[Caution]:
    """Yield where a score over the questions in both is not that of the run's score table."""
    own = own_scores(run)
    for line in lines:
        table = own.get(line.key) if not line.part else None
        shown = score(line.difference) if line.difference else None
        if table is not None and shown is not None and abs(table - shown) > NOTICED:
            yield Caution(
                OWN_SCORE,
                f"{letter} has {table:.2f} in it; over the questions in both it is {shown:.2f}",
                line.title,
                decides=False,
            )


OWN_SCORE = "not the score of the run's table"


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p-values adjusted over all of their lines of one level.

    The average stands alone: it is one line, whatever it is made of.
    """
    known: dict[tuple[int, int], float] = {}
    for level in (0, 1, 2):
        found = [
            (number, place, line.difference.p)
            for number, comparison in enumerate(comparisons)
            for place, line in enumerate(comparison.lines)
            if line.level == level and line.key != AVERAGE and line.difference
        ]
        values = paired.adjusted([p for *_, p in found])
        known |= {(number, place): p for (number, place, _), p in zip(found, values, strict=True)}
    means = [
        (number, comparison.average.difference.p)
        for number, comparison in enumerate(comparisons)
        if comparison.average and comparison.average.difference
    ]
    values = paired.adjusted([p for _, p in means])
    known |= {
        (number, len(comparisons[number].lines) - 1): p
        for (number, _), p in zip(means, values, strict=True)
    }
    return [
        replace(
            comparison,
            lines=tuple(
                replace(line, p=known.get((number, place), 1.0))
                for place, line in enumerate(comparison.lines)
            ),
        )
        for number, comparison in enumerate(comparisons)
    ]


# ---- lines


def statistic(first: Source, second: Source) -> Source:
    """Return how a difference follows from the questions.

    Where the backends average in different ways (BLINK), it is over the questions.
    """
    if first.recompute == second.recompute or first.recompute == "mean":
        return first
    return replace(first, recompute="mean")


def _lines(
    first: EvaluatedRun, second: EvaluatedRun, pairs: Mapping[str, Pairs]
) -> Iterator[ComparedScore]:
    groups = {
        group.key: group for group in GROUPS if all(member in pairs for member in group.members)
    }
    whole = {member for group in groups.values() for member in group.members}
    for key in headline_keys(pairs):
        if key in groups:
            yield from _group_lines(groups[key], first, pairs)
        for name in _members(key, pairs):
            yield from _benchmark_lines(
                first.benchmarks[name], second.benchmarks[name], pairs[name], name in whole
            )


def _members(key: str, pairs: Mapping[str, Pairs]) -> list[str]:
    """Return the benchmark, or those members of a group that both runs have."""
    inside = {member: group.key for group in GROUPS for member in group.members}
    return [name for name in pairs if inside.get(name, name) == key]


def _group_lines(
    group: Group, first: EvaluatedRun, pairs: Mapping[str, Pairs]
) -> Iterator[ComparedScore]:
    import pandas as pd

    both = pd.concat([pairs[member].both for member in group.members], ignore_index=True)
    source, asked = first.benchmarks[group.members[0]].source, Questions.of(both)
    yield _line(group.key, None, title_of(group.key), 0, source, asked)
    for part in group.parts:
        yield _line(group.key, part, part_title(group.key, part.name), 2, source, asked)


def _benchmark_lines(
    first: EvaluatedBenchmark, second: EvaluatedBenchmark, pairs: Pairs, half: bool
) -> Iterator[ComparedScore]:
    source, key = statistic(first.source, second.source), first.bench.key
    asked = Questions.of(pairs.both)
    yield _line(key, None, first.bench.title, int(half), source, asked)
    theirs = {part.name for part in second.source.parts}
    for part in source.parts if not half else ():
        # Sets of questions are whole only where both runs have all of their members.
        if part.name in theirs and (pairs.same_source or not part.group):
            yield _line(key, part, part_title(key, part.name), 2, source, asked)


def _line(
    key: str, part: Part | None, title: str, level: int, source: Source, asked: Questions
) -> ComparedScore:
    found = paired.difference(source, part, asked)
    category = part is not None and part.is_category
    return ComparedScore(key, part.name if part else "", title, level, found, category=category)


def _average(heads: Sequence[ComparedScore]) -> ComparedScore:
    """Return the mean of the benchmarks that both runs have."""
    eight = {line.key for line in heads} >= set(headline_keys(CORE_KEYS))
    counted = [line for line in heads if line.key in headline_keys(CORE_KEYS)] if eight else heads
    title = "EASI-8 average" if eight else f"Mean of these {len(counted)}"
    found = paired.average([line.difference for line in counted if line.difference])
    return ComparedScore(AVERAGE, "", title, 0, found)


# ---- one model through both backends


def agreement(points: float) -> str:
    """Return how far apart two backends' scores of one model are."""
    for step in (CLOSE, NEAR):
        if abs(points) <= step:
            return f"within {step:g} points"
    return f"more than {NEAR:g} points apart"
