"""Read tables as VLMEvalKit writes them: xlsx, TSV and CSV files, cell by cell."""

from __future__ import annotations

import csv
import functools
import io
import math
import os
import string
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree.ElementTree import ParseError, iterparse
from xml.parsers import expat

from ...core.errors import EasiError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_TEXT, _PLAIN, _ROW = f"{_MAIN}si", f"{_MAIN}t", f"{_MAIN}row"
AGAIN = "the file is cut off or damaged: run this benchmark again with --rerun"


def read_delimited(path: Path, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a delimited file as text.

    Raises EasiError if the file is cut off or its rows differ in length.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not text.endswith("\n"):
        raise EasiError(
            f"{path} {'is empty' if not text else 'ends in the middle of a line'}", hint=AGAIN
        )
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    header, rows = lines[0], lines[1:]
    if not rows:
        raise EasiError(f"{path} has no rows", hint="scoring stopped early; see the log")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise EasiError(
                f"{path}, line {number}: {len(row)} cells under {len(header)} headings", hint=AGAIN
            )
    return header, rows


def parse_number(text: str, where: str) -> float | None:
    """Return a finite number, or None for an empty cell or NaN.

    Raises EasiError for anything else.
    """
    if text.strip().lower() in ("", "nan"):
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise EasiError(f"{where}: {text!r} is no number", hint=AGAIN) from error
    if not math.isfinite(value):
        raise EasiError(f"{where}: {text} is not a score", hint=AGAIN)
    return value


def read_sheet(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """Return header and cells of the first sheet of an xlsx file.

    Texts are returned exactly as written: none becomes NaN, a number or the value of a formula.
    """
    try:
        book = _openpyxl().load_workbook(path, read_only=True)
        cells = list(_rows(book.worksheets[0]))
        book.close()
    except (
        OSError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        EOFError,
        ParseError,
        IndexError,
    ) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not cells:
        raise EasiError(f"{path} is empty", hint=AGAIN)
    return [str(name) for name in cells[0]], [
        row for row in cells[1:] if any(cell is not None for cell in row)
    ]


@functools.cache
def _openpyxl() -> ModuleType:
    """Import openpyxl without defusedxml, which parses in Python and takes a third longer.

    It guards against texts that grow when they are parsed; expat itself refuses them since 2.4.1.
    """
    name = "OPENPYXL_DEFUSEDXML"
    given = os.environ.get(name)
    fast = given in (None, "False") and expat.version_info >= (2, 4, 1)
    if fast:
        os.environ[name] = "False"
    import openpyxl
    from openpyxl.reader import excel

    if fast:
        reader: Any = excel
        reader.read_string_table = _string_table
    if fast and given is None:
        del os.environ[name]  # for this process only
    return openpyxl


def _rows(sheet: Any) -> Iterator[Sequence[Any]]:
    """Yield the values of each row of a sheet, as its ``iter_rows`` does in twice the time.

    Nearly all cells refer to the table of texts; the others are left to openpyxl.
    """
    from openpyxl.worksheet._reader import WorkSheetParser

    book, texts, width = sheet.parent, sheet._shared_strings, sheet.max_column
    formats = {"date_formats": book._date_formats, "timedelta_formats": book._timedelta_formats}
    if width is None:  # the sheet does not say how wide it is
        yield from sheet.iter_rows(values_only=True)
        return
    with sheet._get_source() as source:
        parser: Any = WorkSheetParser(source, texts, epoch=book.epoch, **formats)
        for _, node in iterparse(source):
            if node.tag != _ROW:
                continue
            row = [None] * width
            parser.col_counter = 0
            for cell in node:
                place = cell.get("r")
                if place and cell.get("t") == "s" and len(cell) == 1:
                    row[_column(place.rstrip(string.digits))] = texts[int(cell[0].text or "")]
                else:
                    parsed = parser.parse_cell(cell)
                    row[parsed["column"] - 1] = parsed["value"]
            yield tuple(row)
            node.clear()


@functools.cache
def _column(letters: str) -> int:
    from openpyxl.utils import column_index_from_string

    return column_index_from_string(letters) - 1


def _string_table(source: Any) -> list[str]:
    """Read the texts of a workbook as openpyxl does, which takes as long for them as for all cells.

    It makes an object of each text and of its parts; only formatted texts need that.
    """
    from openpyxl.cell.text import Text

    formatted: Any = Text.from_tree
    texts: list[str] = []
    for _, node in iterparse(source):
        if node.tag == _TEXT:
            plain = len(node) == 1 and node[0].tag == _PLAIN
            text = (node[0].text or "") if plain else formatted(node).content
            texts.append(text.replace("x005F_", ""))
            node.clear()
    return texts


def read_tsv(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """Return header and cells of a TSV file (PRED_FORMAT=tsv), like ``read_sheet``.

    Every field is quoted and may contain line breaks.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise EasiError(f"{path} is {'uneven' if lines else 'empty'}", hint=AGAIN)
    return lines[0], [[None if cell == "" else cell for cell in line] for line in lines[1:]]


def cell_text(cell: Any) -> str:
    """Return a cell as text: "" for an empty cell, the formula's text for an array formula.

    An answer may have been taken for an array formula when the file was written.
    """
    return "" if cell is None else str(getattr(cell, "text", cell))


def tsv_rows(path: Path) -> int:
    """Return the number of questions in a dataset's TSV."""
    return len(tsv_items(path))


def tsv_items(path: Path) -> tuple[str, ...]:
    """Return the items of a dataset's TSV, named as in our tables.

    A row without its image is left out, as the package does.
    """
    csv.field_size_limit(1 << 30)  # images stand in their rows as base64
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            return tuple(_index(row.get("index") or "") for row in rows if row.get("image") != "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EasiError(
            f"{path} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error


def _index(text: str) -> str:
    """Return an index as it appears in result files, where pandas has parsed it as a number."""
    return str(int(text)) if text.isdecimal() else text
