"""Check that a per-question file of VLMEvalKit is about the questions of a dataset's table.

Question texts, options and right answers are compared.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...benchmarks import RowRule
from ...core.errors import EasiError

ASKED = re.compile(r"question|input_prompt|options|candidates|[A-Z]")
# Texts that pandas reads as a missing value, in lower case.
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
LONGEST_CELL = 32_000  # an xlsx file cuts longer texts at 32,767 characters


@dataclass(frozen=True)
class Differences:
    """Items that do not agree with the dataset.

    Attributes:
        questions: Items whose question or options differ.
        truths: Items whose right answer differs.
        silent: Items for which the file has no question to compare.
    """

    questions: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def compare(rule: RowRule, rows: Mapping[str, Mapping[str, Any]], table: Path) -> Differences:
    """Return the items that differ from the dataset's TSV.

    Columns that are missing from either side are not compared.

    Args:
        rule: Where the facts of a question are in the per-question file.
        rows: The cells of the per-question file, by item and column.
        table: The dataset's TSV.

    Raises:
        EasiError: The TSV cannot be read.
    """
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
    """Return whether a cell of a result file holds the value that the table has.

    Values change on their way through pandas and an xlsx file; such changes are ignored.
    """
    one, other = plain(cell), plain(written)
    if one == other or one[:LONGEST_CELL] == other[:LONGEST_CELL] != "":
        return True
    return bool(one) and _value(one) == _value(other) is not None


def plain(cell: object) -> str:
    """Return the text of a cell in a comparable form.

    White space and control characters are removed, since an xlsx file does not keep them. Texts
    that pandas reads as missing become "".
    """
    text = "" if cell is None else str(getattr(cell, "text", cell))
    text = re.sub(r"_x[0-9A-Fa-f]{4}_", "", text)
    text = "".join(char for char in text if char.isprintable() and not char.isspace())
    return "" if text.lower() in NOTHING else text


def _value(text: str) -> object:
    """Return a number, flag or list in a comparable form, None for any other text."""
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
