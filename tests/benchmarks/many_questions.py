"""Enlarge the rehearsal's tables of the nine core benchmarks, for both backends.

Rows are repeated under new ids. Each text begins with a marker of its own ("[q blink 17]") and with
filler. The length of the filler is the cost that the queue can see: the longer, the more expensive
it expects the question to be. Filler also evens out the cost that the queue expects of pictures, so
that within a benchmark its order is that of the features.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from easi_eval.benchmarks import CORE_KEYS, LMMS_EVAL, VLMEVALKIT, HubData, TsvData, by_key
from easi_eval.data.hub_tables import named_files
from easi_eval.engine.cost import CHARACTER, IMAGE, count_parts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rehearsal_data.media import write_tsv

# Characters of filler at feature 0, and at most. Together with the pictures' filler the text must
# fit into a workbook's cell, which holds 32,767.
TYPICAL, MOST = (2000, 18000)
# its rows belong together: as they are and mirrored, in VLMEvalKit's table also rotated
PAIRED, ROTATIONS = ("3dsrbench", 4)
MARKER = r"\[q (\S+ \d+)\]"
# The part of each kind of id that is to be new in a repeated row.
NUMBERS = {"index": r"^\d+$", "id": r"(?<=_q)\d+|^\d+$", "idx": r"\d+$", "question_id": r"\d+$"}


def counts(questions: int, keys: Sequence[str] = CORE_KEYS) -> dict[str, int]:
    """So many questions, spread evenly over the benchmarks."""
    found = {}
    if PAIRED in keys:
        found[PAIRED] = ROTATIONS * round(questions / len(keys) / ROTATIONS)
    others = [key for key in keys if key != PAIRED]
    left = questions - sum(found.values())
    found |= {
        key: left * (place + 1) // len(others) - left * place // len(others)
        for place, key in enumerate(others)
    }
    return {key: found[key] for key in keys}


def features(asked: Mapping[str, int]) -> dict[tuple[str, str], float]:
    """A standard normal number for each question, by benchmark and the number in its marker.

    The numbers are the same on every call.
    """
    return {
        (key, str(number)): random.Random(f"{key} {number}").gauss(0, 1)
        for key, count in asked.items()
        for number in range(count)
    }


def enlarge(datasets: Path, asked: Mapping[str, int], sigma: float) -> None:
    """Rewrite the tables below ``datasets`` with ``asked`` questions each.

    The tables are those that ``rehearsal_data.repositories.build`` made. The filler is
    lognormal in the feature, with half of the variance ``sigma**2``.
    """
    drawn = features(asked)
    for key, count in asked.items():
        texts = Texts(
            key, [drawn[key, str(number)] * sigma / math.sqrt(2) for number in range(count)]
        )
        data = by_key(key).source(VLMEVALKIT).data
        assert isinstance(data, TsvData)
        _enlarge_tsv(datasets / data.repo / data.tsv, texts)
        files = parquets(datasets, key)
        for place, file in enumerate(files):
            _enlarge_parquet(
                file, texts, range(count * place // len(files), count * (place + 1) // len(files))
            )


def parquets(datasets: Path, key: str) -> list[Path]:
    """The tables that lmms-eval reads of a benchmark."""
    data = by_key(key).source(LMMS_EVAL).data
    assert isinstance(data, HubData)
    return [
        path
        for config in data.configs or ("",)
        for paths in (named_files(datasets / data.repo, config, data.split) or {}).values()
        for path in paths
    ]


@dataclass(frozen=True)
class Texts:
    """What to put in front of the questions of one benchmark.

    ``logs`` holds the logarithm of each question's filler over the typical one.
    """

    key: str
    logs: Sequence[float]

    def before(self, number: int, pictures_missing: int) -> str:
        """``pictures_missing``: so many fewer than the benchmark's largest question has."""
        length = (
            min(TYPICAL * math.exp(self.logs[number]), MOST) + pictures_missing * IMAGE / CHARACTER
        )
        return (
            f"[q {self.key} {number}] "
            f"{('and so it goes on ' * (int(length) // 17 + 1))[: int(length)]}\n"
        )


@dataclass(frozen=True)
class Copy:
    """Row ``row`` of the table once more, as question ``number``.

    It belongs to the ``group``-th group of rows that stay together.
    """

    row: int
    number: int
    group: int


def _copies(qids: Sequence[str] | None, rows: int, numbers: range) -> list[Copy]:
    """Whole groups of rows in turn, as long as they fit."""
    groups: dict[str, list[int]] = {}
    for row in range(rows):
        groups.setdefault(qids[row][:8] if qids else str(row), []).append(row)
    chosen: list[Copy] = []
    taken = 0
    while fitting := [
        group for group in groups.values() if len(chosen) + len(group) <= len(numbers)
    ]:
        for group in fitting:
            if len(chosen) + len(group) <= len(numbers):
                chosen += [
                    Copy(row, numbers[len(chosen) + place], taken)
                    for place, row in enumerate(group)
                ]
                taken += 1
    if len(chosen) != len(numbers):
        raise ValueError(
            f"groups of {sorted({len(group) for group in groups.values()})} rows do not make "
            f"{len(numbers)}"
        )
    return chosen


def _renamed(column: str, old: str, copy: Copy) -> str:
    if column == "qid":
        return f"Q{copy.group:07}{old[8:]}"
    return re.sub(NUMBERS[column], str(copy.number), old)


def _enlarge_tsv(path: Path, texts: Texts) -> None:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    pictured = next((name for name in ("image", "image_path") if name in rows[0]), None)
    pictures = [count_parts(row[pictured]) if pictured else 0 for row in rows]
    made = []
    for copy in _copies(
        [row["qid"] for row in rows] if "qid" in rows[0] else None,
        len(rows),
        range(len(texts.logs)),
    ):
        row = rows[copy.row]
        before = texts.before(copy.number, max(pictures) - pictures[copy.row])
        made.append(
            {
                **row,
                **{
                    name: _renamed(name, row[name], copy)
                    for name in (*NUMBERS, "qid")
                    if name in row
                },
                **{
                    name: before + row[name] for name in ("question", "input_prompt") if name in row
                },
            }
        )
    write_tsv(path, made)


def _enlarge_parquet(path: Path, texts: Texts, numbers: range) -> None:
    table = pq.read_table(path)
    names = table.column_names
    copies = _copies(table["qid"].to_pylist() if "qid" in names else None, len(table), numbers)
    lists = [name for name in names if _holds_pictures(table.schema.field(name).type)]
    pictures = (
        [sum(map(len, row.values())) for row in table.select(lists).to_pylist()]
        if lists
        else [0] * len(table)
    )
    made = table.take([copy.row for copy in copies])
    data = by_key(texts.key).source(LMMS_EVAL).data
    assert isinstance(data, HubData)
    prompt = data.asked[0]
    before = [texts.before(copy.number, max(pictures) - pictures[copy.row]) for copy in copies]
    changed = {
        prompt: [front + text for front, text in zip(before, made[prompt].to_pylist(), strict=True)]
    }
    for name in (*NUMBERS, "qid"):
        if name in names:
            changed[name] = [
                _renamed(name, str(old), copy)
                for old, copy in zip(made[name].to_pylist(), copies, strict=True)
            ]
    for name, values in changed.items():
        kind = table.schema.field(name).type
        made = made.set_column(
            names.index(name),
            table.schema.field(name),
            pa.array(
                [int(value) for value in values] if pa.types.is_integer(kind) else values, kind
            ),
        )
    pq.write_table(made.replace_schema_metadata(table.schema.metadata), path)


def _holds_pictures(kind: pa.DataType) -> bool:
    """A list of images: the hub's own type, or plain bytes (MMSI-Bench)."""
    return pa.types.is_list(kind) and (
        pa.types.is_struct(kind.value_type) or pa.types.is_binary(kind.value_type)
    )


def as_json(seconds: Mapping[tuple[str, str], float]) -> str:
    """By the name in the marker."""
    return json.dumps({" ".join(key): value for key, value in seconds.items()})
