"""Keeps answer texts exact although VLMEvalKit stores them in xlsx files.

A cell cannot hold every text:

- An empty text, ``None`` and ``NA`` come back as missing values.
- A column of numbers only comes back as numbers, and ``=1+1`` as 0.
- Texts longer than 32,767 characters are truncated.
- Control characters are escaped by one of the xlsx writers and rejected by the other; lone
  surrogates stop both.

Therefore a lossless ``.jsonl`` is written beside the xlsx, and the evaluation in this process
gets the original texts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

# Characters that XML 1.0 cannot hold. A spreadsheet stores such a character as _xHHHH_
# (ECMA-376 part 1, 22.9.2.19, ST_Xstring).
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Without these options xlsxwriter makes formulas or links of texts that look like them.
_AS_TEXT = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}


def write_predictions(table: pd.DataFrame, answers: Mapping[str, str], path: Path) -> None:
    """Write VLMEvalKit's prediction file ``path`` and a lossless ``.jsonl`` beside it.

    Args:
        table: The dataset's rows without a column ``prediction``, which is made from ``answers``.
        answers: Answer text by item id, in the order of the rows of ``table``.
        path: The xlsx file. Each line of the ``.jsonl`` has ``index`` and ``prediction``.
    """
    with path.with_suffix(".jsonl").open("w", encoding="utf-8") as lossless:
        for item, text in answers.items():
            lossless.write(json.dumps({"index": item, "prediction": text}) + "\n")
    with warnings.catch_warnings():
        # The warning is "truncated to 32767 characters"; the jsonl has the whole texts.
        warnings.simplefilter("ignore", UserWarning)
        written = writable(table.assign(prediction=_texts(answers.values(), table.index)))
        written.to_excel(path, index=False, engine="xlsxwriter", engine_kwargs=_AS_TEXT)


def holding(answers: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Return a context in which tables can hold all of ``answers``.

    The string type of pandas is UTF-8 inside and fails on a lone surrogate; plain objects hold any
    text.
    """
    plain = any(_SURROGATE.search(text) for text in answers)
    return pd.option_context("future.infer_string", False) if plain else contextlib.nullcontext()


def exact_reader(
    read: Callable[..., Any], path: Path, answers: Sequence[str]
) -> Callable[..., Any]:
    """Return a ``read_excel`` that gives ``answers`` for those in the prediction file ``path``."""

    def read_excel(source: Any, *args: Any, **options: Any) -> Any:
        table = read(source, *args, **options)
        if isinstance(source, str | os.PathLike) and Path(source).absolute() == path.absolute():
            table["prediction"] = _texts(answers, table.index)
        return table

    return read_excel


def escaping_writer(write: Callable[..., None]) -> Callable[..., None]:
    """Return a ``DataFrame.to_excel`` that escapes the characters that xlsx cannot hold."""

    def to_excel(table: pd.DataFrame, *args: Any, **options: Any) -> None:
        write(writable(table), *args, **options)

    return to_excel


def writable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with characters that xlsx cannot hold escaped.

    Returns the same object if there are none.
    """
    for place in range(table.shape[1]):  # by place: ViewSpatial's has two columns of one name
        column = table.iloc[:, place]
        if not any(isinstance(cell, str) and _NO_XML.search(cell) for cell in column):
            continue
        table = table.copy()
        escaped: Any = _texts([_escaped(cell) for cell in column], table.index)  # no such overload
        table.isetitem(place, escaped)
    return table


def _escaped(cell: Any) -> Any:
    return (
        _NO_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", cell)
        if isinstance(cell, str)
        else cell
    )


def lossy(answers: Mapping[str, str]) -> list[str]:
    """Return the items whose answers VLMEvalKit's own loop would score from a changed text.

    The answers are written to an xlsx and read back as VLMEvalKit does. Texts with lone surrogates
    are always included, because VLMEvalKit can write no file at all with them.
    """
    unwritable = [item for item, text in answers.items() if _SURROGATE.search(text)]
    kept = {item: text for item, text in answers.items() if item not in set(unwritable)}
    sheet = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # The index keeps rows whose answer is empty. Writer and settings are those of
        # vlmeval.smp.file.dump.
        pd.DataFrame({"index": range(len(kept)), "prediction": _texts(kept.values())}).to_excel(
            sheet, index=False, engine="xlsxwriter"
        )
    changed = {
        item
        for (item, text), cell in zip(kept.items(), pd.read_excel(sheet)["prediction"], strict=True)
        if str(cell) != text
    }
    return [item for item in answers if item in changed or item in unwritable]


def _texts(cells: Any, index: Any = None) -> pd.Series:
    """Return a series of plain objects; pandas would convert them to its string type or numbers."""
    return pd.Series(list(cells), index=index, dtype=object)
