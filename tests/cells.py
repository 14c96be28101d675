"""Workbooks as plain cells: rows of None, bool, int, float and str; the first one is the header."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl


def read_cells(path: Path) -> tuple[str, list[list[Any]]]:
    """Title and rows of the first sheet."""
    sheet = openpyxl.load_workbook(path, read_only=True).worksheets[0]
    return sheet.title, [list(row) for row in sheet.iter_rows(values_only=True)]


def write_cells(title: str, rows: Sequence[Sequence[Any]]) -> bytes:
    """A workbook of one sheet."""
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()
