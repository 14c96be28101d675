"""Answers as they are, although VLMEvalKit keeps them in xlsx files.

A cell cannot hold every text: what is empty or reads ``None`` or ``NA`` comes back as a missing value, a column of
nothing but numbers as numbers, ``=1+1`` as 0, and what is longer than 32,767 characters cut off; control characters
are escaped by one writer and refused by the other, and lone surrogates stop both. So beside the xlsx lies a lossless
``.jsonl``, and the evaluation in this process is given the texts themselves.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

# What XML 1.0 cannot hold; in a spreadsheet such a character is written as _xHHHH_ (ECMA-376 part 1, 22.9.2.19, ST_Xstring).
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Texts stay texts in the sheet: nothing is a formula or a link because of how it begins.
_AS_TEXT = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}


def write_predictions(table: pd.DataFrame, answers: Mapping[str, str], path: Path) -> None:
    """VLMEvalKit's prediction file ``path``, as good as an xlsx can be, and a lossless ``.jsonl`` beside it.

    ``answers``: the text by item id, in the order of the rows of ``table``; its column ``prediction`` is made from them.
    """
    with path.with_suffix(".jsonl").open("w", encoding="utf-8") as lossless:
        for item, text in answers.items():
            lossless.write(json.dumps({"index": item, "prediction": text}) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # "truncated to 32767 characters": the jsonl has them
        written = writable(table.assign(prediction=_texts(answers.values(), table.index)))
        written.to_excel(path, index=False, engine="xlsxwriter", engine_kwargs=_AS_TEXT)


@contextlib.contextmanager
def exact_answers(path: Path, answers: Sequence[str]) -> Iterator[None]:
    """Inside, whoever reads the prediction file ``path`` gets these texts, and tables that xlsx cannot hold are written all the same.

    All of VLMEvalKit's names for its ``load`` end in ``pandas.read_excel``, and so do its writers in
    ``DataFrame.to_excel``: replacing these two reaches every module, however it imported them.
    """
    read, write = pd.read_excel, pd.DataFrame.to_excel

    def read_excel(source: Any, *args: Any, **options: Any) -> Any:
        table = read(source, *args, **options)
        if isinstance(source, str | os.PathLike) and Path(source).absolute() == path.absolute():
            table["prediction"] = _texts(answers, table.index)
        return table

    def to_excel(table: pd.DataFrame, *args: Any, **options: Any) -> None:
        write(writable(table), *args, **options)

    # pandas' own string type is UTF-8 inside, where a lone surrogate is an error; plain objects hold any text.
    plain = any(_SURROGATE.search(text) for text in answers)
    with pd.option_context("future.infer_string", False) if plain else contextlib.nullcontext():
        pd.read_excel, pd.DataFrame.to_excel = read_excel, to_excel
        try:
            yield
        finally:
            pd.read_excel, pd.DataFrame.to_excel = read, write


def writable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with characters that no spreadsheet can hold escaped; the very same one if it has none."""
    for place in range(table.shape[1]):  # by place: ViewSpatial's has two columns of one name
        column = table.iloc[:, place]
        if not any(isinstance(cell, str) and _NO_XML.search(cell) for cell in column):
            continue
        table = table.copy()
        table.isetitem(place, _texts([_escaped(cell) for cell in column], table.index))
    return table


def _escaped(cell: Any) -> Any:
    return (
        _NO_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", cell)
        if isinstance(cell, str)
        else cell
    )


def lossy(answers: Mapping[str, str]) -> list[str]:
    """The items whose answers VLMEvalKit's own loop would not score as they are: its xlsx gives its evaluation other texts.

    Texts with lone surrogates among them: no file is written at all then.
    """
    unwritable = [item for item, text in answers.items() if _SURROGATE.search(text)]
    kept = {item: text for item, text in answers.items() if item not in set(unwritable)}
    sheet = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        # An index keeps rows whose answer is empty; the writer and its settings are those of vlmeval.smp.file.dump.
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
    """Texts as plain objects: pandas would make its own type of them, or numbers."""
    return pd.Series(list(cells), index=index, dtype=object)
