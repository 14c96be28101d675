"""Whether a samples file of lmms-eval is about the questions of a dataset: prompt, options and right answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..benchmarks import HubData
from .table_check import Differences, plain, same

PLACEHOLDER = re.compile(r"<(?:image|video)>")  # a task moves and multiplies them


@dataclass(frozen=True)
class Sample:
    """``row``: of the dataset. ``entry``: the object that the task left; ``judged``: its member with the right answer, if it has one."""

    item: str
    sample: Mapping[str, Any]
    entry: Mapping[str, Any]
    row: Mapping[str, Any]
    judged: str = ""

    @property
    def documents(self) -> list[Mapping[str, Any]]:
        """Where columns of the dataset may stand under their own names."""
        return [
            place for place in (self.entry, self.sample.get("doc")) if isinstance(place, Mapping)
        ]


def compare(data: HubData, samples: Iterable[Sample]) -> Differences:
    questions, truths, silent = [], [], []
    for each in samples:
        verdicts = _questions(data, each)
        if not all(verdicts):
            questions.append(each.item)
        elif not all(
            any(_right(told, each.row[name]) for name in data.truth if name in each.row)
            for told in _truths(data, each)
        ):
            truths.append(each.item)
        elif not verdicts:
            silent.append(each.item)
    return Differences(tuple(questions), tuple(truths), tuple(silent))


def _questions(data: HubData, each: Sample) -> list[bool]:
    """Whether each place that tells of the question tells of this one."""
    asked = {name: _texts(each.row[name]) for name in data.asked if name in each.row}
    found = [
        asked[name] == _texts(place[name])
        for place in each.documents
        for name in asked
        if name in place
    ]
    prompt = each.sample.get("input")
    if isinstance(prompt, str) and prompt:
        found.append(
            _in_order([text for texts in asked.values() for text in texts], *_texts(prompt))
        )
    return found


def _truths(data: HubData, each: Sample) -> list[Any]:
    found = [place[name] for place in each.documents for name in data.truth if name in place]
    found += [each.entry[each.judged]] if each.judged in each.entry else []
    return [*found, *([each.sample["target"]] if "target" in each.sample else [])]


def _right(told: object, written: object) -> bool:
    """A task writes a right answer as it is, without its brackets, or as the letter of its number."""
    letter = (
        chr(ord("A") + written)
        if isinstance(written, int) and 0 <= written < 26
        else plain(written).strip("()")
    )
    return same(told, written) or plain(told) == letter != ""


def _texts(value: object) -> list[str]:
    """Without white space and placeholders."""
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [] if value is None else [plain(PLACEHOLDER.sub("", str(value)))]


def _in_order(texts: Sequence[str], prompt: str) -> bool:
    place = 0
    for text in texts:
        found = prompt.find(text, place)
        if found < 0:
            return False
        place = found + len(text)
    return True
