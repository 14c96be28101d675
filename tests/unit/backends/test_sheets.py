"""Workbooks that are not what VLMEvalKit wrote."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import xlsxwriter
from openpyxl.reader.strings import read_string_table

from easi_eval.backends.vlmevalkit.sheets import read_sheet
from easi_eval.core.errors import EasiError

BOMB = "".join(
    f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' if level else '<!ENTITY e0 "laugh">'
    for level in range(10)
)


def edited(path: Path, part: str, old: str, new: str) -> None:
    """Replace a text once in one part of a workbook."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    text = parts[part].decode("utf-8")
    assert old in text
    parts[part] = text.replace(old, new, 1).encode("utf-8")
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)


@pytest.mark.parametrize("part", ["xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"])
def test_a_text_that_grows_when_it_is_parsed_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "answers.xlsx"
    pd.DataFrame({"index": [0], "prediction": ["A"]}).to_excel(path, index=False)
    assert read_sheet(path) == (["index", "prediction"], [(0, "A")])
    root = "sst" if "shared" in part else "worksheet"
    edited(path, part, f"<{root} ", f"<!DOCTYPE {root} [{BOMB}]><{root} ")
    last = "<t>A</t>" if "shared" in part else "<v>0</v>"
    edited(path, part, last, last.replace("A", "&e9;").replace("0", "&e9;"))
    with pytest.raises(EasiError, match="cannot be read"):
        read_sheet(path)


def test_texts_are_read_exactly(tmp_path: Path) -> None:
    """Formatted, empty and repeated ones too; what openpyxl's own reader gives."""
    path = tmp_path / "answers.xlsx"
    texts = [
        "  two spaces ",
        "line\nbreak\ttab",
        "x",
        "x",
        "=1+1",
        "naïve 床头柜 &<>\"'",
        "a_x0041_b",
    ]
    with xlsxwriter.Workbook(path, {"strings_to_formulas": False}) as book:
        sheet = book.add_worksheet()
        for place, text in enumerate(["prediction", *texts]):
            sheet.write_string(place, 0, text)
        sheet.write_rich_string(
            len(texts) + 1, 0, "plain ", book.add_format({"bold": True}), "bold"
        )
    _, cells = read_sheet(path)
    with zipfile.ZipFile(path) as book:
        theirs = read_string_table(book.open("xl/sharedStrings.xml"))
    assert [text for (text,) in cells] == [*texts[:-1], cells[-2][0], "plain bold"]
    assert {text for (text,) in cells} == set(theirs) - {"prediction"}


@pytest.mark.parametrize("streamed", [False, True], ids=["with its size", "without"])
def test_all_kinds_of_cells_are_read_as_openpyxl_reads_them(tmp_path: Path, streamed: bool) -> None:
    path = tmp_path / "answers.xlsx"
    book = openpyxl.Workbook(write_only=streamed)
    sheet = book.create_sheet() if streamed else book.active
    rows = (
        ["index", "prediction", "hit", None, "score"],
        [1, "A", True, None, 0.1],
        [None, "", False, "x", 1e300],
        [2, "=SUM(A1:A2)", datetime.datetime(2026, 1, 2, 3), datetime.timedelta(hours=30), None],
        [None] * 5,
        [3, "#N/A", -7, "x", 3],
    )
    for row in rows:
        sheet.append(row)
    book.save(path)
    header, *cells = (
        openpyxl.load_workbook(path, read_only=True).worksheets[0].iter_rows(values_only=True)
    )
    assert read_sheet(path) == ([str(name) for name in header], [row for row in cells if any(row)])


def test_what_other_programs_write_into_a_workbook_is_read(tmp_path: Path) -> None:
    """Escapes that xlsxwriter does not need, and Excel's own attributes of rows."""
    path = tmp_path / "answers.xlsx"
    answer = "a long answer, " * 10 + "and its end"
    pd.DataFrame({"prediction": [answer], "hit": [True]}).to_excel(path, index=False)
    edited(path, "xl/sharedStrings.xml", f"{answer}</t>", f"{answer}&#13;&quot;</t>")
    sheet = "xl/worksheets/sheet1.xml"
    edited(path, sheet, "<worksheet ", '<worksheet xmlns:x14ac="urn:some:extension" ')
    edited(path, sheet, '<row r="2"', '<row r="2" x14ac:dyDescent="0.25"')
    assert read_sheet(path) == (["prediction", "hit"], [(f'{answer}\r"', True)])
