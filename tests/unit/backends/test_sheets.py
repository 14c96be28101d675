"""Workbooks that are not what VLMEvalKit wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

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
