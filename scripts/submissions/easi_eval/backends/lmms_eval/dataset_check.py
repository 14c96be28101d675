"""Check that adopted samples of lmms-eval are about the questions of the dataset.

Prompts, options and right answers are compared.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...benchmarks import LMMS_EVAL, Benchmark, HubData
from ...core.errors import EasiError
from ...data.hub_tables import rows_of, shuffled, snapshots
from ...data.needs import HubSettings
from ...engine.work import ItemList
from ...scores.outputs import Outputs
from ..base import DatasetMatch
from ..shared.dataset_match import (
    Differences,
    plain,
    refuse_differences,
    refuse_other_items,
    same,
)
from .samples import lmms_samples

if TYPE_CHECKING:
    import pandas as pd

# Tasks move and repeat placeholders, so they are ignored in comparisons.
PLACEHOLDER = re.compile(r"<(?:image|video)>")
UNPROVEN = "its questions and right answers were not compared: the dataset is not on disk"
SILENT = "its right answers match the dataset; its files have no questions to compare"
OTHER_COMMIT = (
    "its questions and right answers are those of commit {commit} of the dataset, "
    "which is not main's in the hub's cache"
)


@dataclass(frozen=True)
class Sample:
    """One sample, with the row of the dataset that it should be about.

    Attributes:
        item: The item's name.
        sample: The sample as lmms-eval wrote it.
        entry: The task's own object in it.
        row: The row of the dataset.
        judged: The member of ``entry`` that holds the right answer, if there is one.
    """

    item: str
    sample: Mapping[str, Any]
    entry: Mapping[str, Any]
    row: Mapping[str, Any]
    judged: str = ""

    @property
    def documents(self) -> list[Mapping[str, Any]]:
        """The places where columns of the dataset may occur under their own names."""
        return [
            place for place in (self.entry, self.sample.get("doc")) if isinstance(place, Mapping)
        ]


def compare_with_cache(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame, hub: HubSettings
) -> DatasetMatch:
    """Compare the results with the dataset in the hub's cache, if it is there.

    A question's id is the number of its row in the dataset, which some tasks shuffle.

    Raises:
        EasiError: Questions or right answers differ from those in every snapshot.
    """
    source = bench.source(LMMS_EVAL, out.task)
    data = source.data
    assert isinstance(data, HubData)
    folders, main = snapshots(data, hub)
    orders: tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], ...] = (list, shuffled)
    problems = []
    for folder, order in itertools.product(folders, orders):
        try:
            documents = rows_of(data, folder)
            if documents is None:
                continue
            asked = {
                f"{task}:{number}": row
                for task, those in zip(source.tasks, documents, strict=True)
                for number, row in enumerate(order(those))
            }
            items = ItemList(bench.key, len(asked), tuple(asked))
            refuse_other_items(rows, items)
            found = compare(
                data,
                (
                    Sample(item, sample, entry, asked[item], source.rows.target)
                    for item, sample, entry in lmms_samples(bench, out)
                ),
            )
            refuse_differences(found, f"{data.repo} in the hub's cache")
        except EasiError as error:
            problems.append(error)
            continue
        notes = [SILENT] * bool(found.silent) + [OTHER_COMMIT.format(commit=folder.name[:12])] * (
            main not in ("", folder.name)
        )
        return DatasetMatch(items, {"commit": folder.name}, tuple(notes))
    if problems:
        raise problems[0]
    return DatasetMatch(notes=(UNPROVEN,))


def compare(data: HubData, samples: Iterable[Sample]) -> Differences:
    """Return the items whose question or right answer differs from the dataset's row."""
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
    """Return, for each place in the sample that shows the question, whether it is the right one."""
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
    """Return whether ``told`` is the right answer that the dataset has as ``written``.

    A task writes it unchanged, without its brackets, or as the letter for its number.
    """
    letter = (
        chr(ord("A") + written)
        if isinstance(written, int) and 0 <= written < 26
        else plain(written).strip("()")
    )
    return same(told, written) or plain(told) == letter != ""


def _texts(value: object) -> list[str]:
    """Return all texts in ``value``, without white space and placeholders."""
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [] if value is None else [plain(PLACEHOLDER.sub("", str(value)))]


def _in_order(texts: Sequence[str], prompt: str) -> bool:
    """Return whether all texts occur in the prompt, in this order and without overlap."""
    place = 0
    for text in texts:
        found = prompt.find(text, place)
        if found < 0:
            return False
        place = found + len(text)
    return True
