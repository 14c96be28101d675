"""Whether a per-question file of VLMEvalKit is about the questions of a dataset's table: text, options and right answers."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..benchmarks import RowRule
from ..errors import EasiError

ASKED = re.compile(r"question|input_prompt|options|candidates|[A-Z]")
# What pandas reads as no value.
NOTHING = frozenset(
    {
        "",
        "#n/a",
        "#na",
        "<na>",
        "n/a",
        "na",
        "nan",
        "null",
        "none",
        "-nan",
        "1.#ind",
        "1.#qnan",
        "-1.#ind",
        "-1.#qnan",
    }
)
LONGEST_CELL = 32_000  # an xlsx cuts what is longer, at 32,767 characters


@dataclass(frozen=True)
class Differences:
    """Items whose question or options, and whose right answer, are not those of the table; ``silent``: whose file has no question."""

    questions: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def compare(rule: RowRule, rows: Mapping[str, Mapping[str, Any]], table: Path) -> Differences:
    """``rows``: the cells of a per-question file by item. Columns that one of the two lacks are not looked at."""
    questions, truths = [], []
    csv.field_size_limit(1 << 30)  # images stand in their rows as base64
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                index = line.get("index") or ""
                item = str(int(index)) if index.isdecimal() else index
                row = rows.get(item)
                if row is None:
                    continue
                asked = [name for name in line if name and ASKED.fullmatch(name) and name in row]
                if any(not same(row[name], line[name]) for name in asked):
                    questions.append(item)
                elif (
                    rule.target in line
                    and rule.target in row
                    and not same(row[rule.target], line[rule.target])
                ):
                    truths.append(item)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EasiError(
            f"{table} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error
    return Differences(tuple(questions), tuple(truths))


def same(cell: object, written: object) -> bool:
    """Whether a cell of a result file holds what the table has: its way led through pandas and an xlsx."""
    one, other = plain(cell), plain(written)
    if one == other or one[:LONGEST_CELL] == other[:LONGEST_CELL] != "":
        return True
    return bool(one) and _value(one) == _value(other) is not None


def plain(cell: object) -> str:
    """Without white space and control characters, which an xlsx does not keep; what pandas takes for no value is empty."""
    text = "" if cell is None else str(getattr(cell, "text", cell))
    text = re.sub(r"_x[0-9A-Fa-f]{4}_", "", text)
    text = "".join(char for char in text if char.isprintable() and not char.isspace())
    return "" if text.lower() in NOTHING else text


def _value(text: str) -> object:
    """A number or a list as what it is; other texts are what they are."""
    try:
        return float(text)
    except ValueError:
        pass
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return [str(each) for each in listed] if isinstance(listed, list | tuple) else None
