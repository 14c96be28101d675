"""What a cell of a result file may look like and still be the table's.

Cells pass through pandas and an xlsx.
"""

from __future__ import annotations

import pytest

from easi_eval.backends.shared.dataset_match import same


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("Which?", "Which?"),
        (3, "3"),
        (3, "3.0"),
        (0.1, "0.10"),
        (True, "TRUE"),
        (None, ""),
        (None, "None"),
        (None, "NA"),
        ("two\nlines ", "two\r\nlines"),
        ("bell_x0007_", "bell\x07"),
        ("tab here", "tab\there"),
        ("['a', 'b']", '["a", "b"]'),
        ("x" * 32_767, "x" * 40_000),
    ],
)
def test_what_pandas_and_an_xlsx_make_of_a_text_is_the_same(cell: object, written: str) -> None:
    assert same(cell, written)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("A", "B"),
        ("Which?", "Who?"),
        (3, "4"),
        (None, "A"),
        ("['a', 'b']", "['b', 'a']"),
        ("a", "A"),
    ],
)
def test_other_texts_are_not(cell: object, written: str) -> None:
    assert not same(cell, written)
