"""The questions that two runs both answered.

On one backend and task a question has the same item in every run. Elsewhere it is known by its
variant (3DSRBench's qid), or by its place among the questions of its kind: both backends read a
benchmark's questions in one order. Right answers tell whether that holds: they have to agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..benchmarks import Source
from ..scores.recompute import letter_of
from .evaluated import EvaluatedBenchmark

if TYPE_CHECKING:
    import pandas as pd

# Share of the right answers of a kind that agree if its questions are in the same order. In another
# order about a quarter of the letters agree, and fewer numbers.
AGREE = 0.9
MOST = 0.5  # share of a benchmark whose kinds have to agree
_NUMBER = re.compile(r"(\d+)$")
_TAGS = re.compile(r"</?answer>", re.IGNORECASE)


@dataclass(frozen=True)
class Pairs:
    """The questions of one benchmark in two runs.

    Attributes:
        both: One row per question in both: ``item``, ``second_item``, ``question_type``,
            ``second_type``, ``options``, ``variant``, ``cluster``, and for each run the columns
            ``score``, ``answer``, ``extracted``, ``failed`` and ``parsed``, called ``first`` and
            ``second`` (scores), ``first_answer``, ``second_answer`` and so on.
        only_first: Number of questions that only the first run has.
        only_second: Number that only the second run has.
        other_key: Number of questions that have another right answer in the second run; they are
            not in ``both``.
        same_source: Whether both were asked through the same backend and task.
    """

    both: pd.DataFrame
    only_first: int
    only_second: int
    other_key: int
    same_source: bool


def pair(first: EvaluatedBenchmark, second: EvaluatedBenchmark) -> Pairs:
    """Pair the questions of one benchmark in two runs."""
    same = first.source is second.source
    left, right = _named(first, second.source, same), _named(second, first.source, same)
    joined = left.merge(right, on=["kind", "place"], suffixes=("", "_2"))
    agrees = joined["key"] == joined["key_2"]
    if same or joined["variant"].astype(bool).all():
        kept = agrees
    else:
        alike = agrees.groupby(joined["kind"]).transform("mean") >= AGREE
        # Where most kinds are in another order, a few with the same answers are so by chance.
        kept = agrees & alike & (alike.mean() > MOST)
    other = int((~kept).sum()) if same else 0
    both = joined[kept]
    clusters = _cluster_column(both)
    made = both.assign(cluster=clusters).rename(
        columns={
            "score": "first",
            "score_2": "second",
            "item_2": "second_item",
            "question_type_2": "second_type",
            **{name: f"first_{name}" for name in _OF_RUN},
            **{f"{name}_2": f"second_{name}" for name in _OF_RUN},
        }
    )
    return Pairs(
        made.reset_index(drop=True),
        len(left) - len(both) - other,
        len(right) - len(both) - other,
        other,
        same,
    )


_OF_RUN = ("answer", "extracted", "failed", "parsed", "rule")
_COLUMNS = ("item", "question_type", "score", "cluster", "options", "variant", *_OF_RUN)


def _named(of: EvaluatedBenchmark, other: Source, same: bool) -> pd.DataFrame:
    """Return the questions with ``kind`` and ``place``, which name one, and ``key``, its answer."""
    rows = of.rows
    made = rows[list(_COLUMNS)].assign(key=[right_answer(text) for text in rows["target"]])
    if same:
        return made.assign(kind="", place=rows["item"])
    if rows["variant"].astype(bool).all():
        return made.assign(kind="", place=rows["variant"])
    kinds = kind_names(of.source, other)
    order = sorted(range(len(rows)), key=[_order(item) for item in rows["item"]].__getitem__)
    made = made.iloc[order]
    made = made.assign(kind=[kinds.get(kind, kind.casefold()) for kind in made["question_type"]])
    return made.assign(place=made.groupby("kind").cumcount().astype(str))


def kind_names(source: Source, other: Source) -> dict[str, str]:
    """Return a name of each question type that is the same through both backends.

    It is the type's own name where both have it, else the parts that count it in both.
    """
    common = {part.name for part in source.parts} & {part.name for part in other.parts}
    theirs = {kind for part in other.parts for kind in part.types}
    parts: dict[str, list[str]] = {}
    for part in source.parts:
        for kind in part.types if part.name in common else ():
            parts.setdefault(kind, []).append(part.name)
    return {
        kind: kind.casefold() if kind in theirs else " ".join(sorted(names))
        for kind, names in parts.items()
    }


def right_answer(target: str) -> str:
    """Return a right answer as both backends can be compared: its letter, its number or its text.

    Backends write the same one as ``B``, ``(B)``, ``B. left`` and ``<Answer>B</Answer>``.
    """
    text = _TAGS.sub("", target).strip()
    letter = letter_of(text)
    if letter:
        return letter
    try:
        return repr(float(text))
    except ValueError:
        return text.casefold()


def _order(item: str) -> tuple[str, int, str]:
    """Return what sorts the items of a data set: subtask and number."""
    found = _NUMBER.search(item)
    return (item[: found.start()], int(found[1]), "") if found else (item, 0, item)


def _cluster_column(both: pd.DataFrame) -> pd.Series:
    """Return the cluster of each question as one of the runs knows it; "" where neither does."""
    return both["cluster"].where(both["cluster"].astype(bool), both["cluster_2"])
