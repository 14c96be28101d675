"""The sub-scores of a run: which are categories of questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..benchmarks import GROUPS, Part, by_key
from ..scores.score_table import title_of
from .subject import Subject


@dataclass(frozen=True)
class Category:
    """A sub-score.

    Attributes:
        key: Key of the benchmark.
        title: Its title.
        part: Name of the sub-score.
        value: The score, 0-100.
        ranked: Whether it is a category of its own (``Part.is_category``).
    """

    key: str
    title: str
    part: str
    value: float
    ranked: bool


def categories(subject: Subject) -> list[Category]:
    """Return the sub-scores of all benchmarks, in the order of the registry."""
    return [
        Category(score.key, title_of(score.key), part.name, value, part.is_category)
        for score in subject.table.headlines
        for part in parts_of(subject, score.key)
        if (value := score.reading.parts.get(part.name)) is not None
    ]


def parts_of(subject: Subject, key: str) -> Sequence[Part]:
    """Return the sub-scores of a benchmark or a group."""
    group = next((group for group in GROUPS if group.key == key), None)
    return group.parts if group else by_key(key).source(subject.reader.name).parts


def types_of(subject: Subject, key: str) -> Mapping[str, tuple[str, ...]]:
    """Return the types of the questions of each sub-score of a benchmark or a group."""
    return {part.name: part.types for part in parts_of(subject, key)}
