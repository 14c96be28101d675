"""Read the first sheet of a workbook as plain cells, and write cells as a minimal workbook.

Spreadsheet programs and pandas can read the workbook.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

import openpyxl

from ...core.errors import EasiError

Cells = list[list[Any]]  # rows of None, bool, int, float and str; the first one is the header

_PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        'relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        'relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
    ),
}
_WORKBOOK = (
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    '<sheets><sheet name="{}" sheetId="1" r:id="r1"/></sheets></workbook>'
)
_SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    "<sheetData>{}</sheetData></worksheet>"
)
DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
EPOCH = (1980, 1, 1, 0, 0, 0)


def read_cells(path: Path) -> tuple[str, Cells]:
    """Title and rows of the first sheet, with formulas as their text.

    Raises:
        EasiError: The file cannot be read as a workbook.
    """
    try:
        book = openpyxl.load_workbook(path, read_only=True)
        sheet = book.worksheets[0]
        rows = [[_plain(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        title = sheet.title
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
        raise EasiError(f"{path} cannot be read: {error}", hint="is it a workbook?") from error
    return title, rows


def write_cells(title: str, rows: Sequence[Sequence[Any]]) -> bytes:
    """A workbook of one sheet.

    Its parts are stored uncompressed, because the archive around it compresses all parts together,
    which makes it smaller.
    """
    made = io.BytesIO()
    sheet = "".join("<row>" + "".join(map(_cell, row)) + "</row>" for row in rows)
    parts = {
        **_PARTS,
        "xl/workbook.xml": _WORKBOOK.format(escape(title, {'"': "&quot;"})),
        "xl/worksheets/sheet1.xml": _SHEET.format(sheet),
    }
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as book:
        for name, text in parts.items():
            book.writestr(zipfile.ZipInfo(name, EPOCH), DECLARATION + text)
    return made.getvalue()


def _plain(cell: Any) -> Any:
    """The cell's value; the text of an array formula or of a date."""
    return (
        cell
        if cell is None or isinstance(cell, (bool, int, float, str))
        else str(getattr(cell, "text", cell))
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<c/>"  # cells have no coordinates here, so empty ones must be written
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f"<c><v>{value!r}</v></c>"
    text = escape(value, {"\r": "&#13;"})
    space = ' xml:space="preserve"' if value != value.strip() or "\n" in value else ""
    return f'<c t="inlineStr"><is><t{space}>{text}</t></is></c>'
