"""Compare adopted results with the questions and right answers of a dataset."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import EasiError

if TYPE_CHECKING:
    import pandas as pd

    from ...engine.work import ItemList

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


def refuse_repeated(rows: pd.DataFrame) -> None:
    """Refuse a per-question table that has a question twice."""
    if not rows["item"].is_unique:
        raise EasiError(f"{int(rows['item'].duplicated().sum())} questions are there twice")


def refuse_other_items(rows: pd.DataFrame, items: ItemList) -> None:
    """Refuse a per-question table that has not exactly the questions of the dataset."""
    there, known = set(rows["item"]), set(items.ids)
    if there == known:
        return
    if there < known:
        raise EasiError(
            f"{len(there)} questions of {len(known)}: incomplete, or made under --limit"
        )
    raise EasiError(
        f"{len(there)} questions, {len(there - known)} of which the dataset's {len(known)} do not "
        "have: made from another version of it"
    )


def refuse_differences(found: Differences, table: str) -> None:
    """Refuse results that differ from the dataset; ``table`` names it in the message."""
    for items, what in (
        (found.questions, "questions are not those"),
        (found.truths, "right answers are not those"),
    ):
        if items:
            raise EasiError(
                f"{len(items)} {what} of {table} (the first: {items[0]}): "
                "made from another version of it, or changed since"
            )
