"""The per-question table as a file.

Nothing is lost, the same rows give the same bytes, and a changed file is noticed.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import pandas as pd
import pytest

from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.benchmarks import BACKENDS, BENCHMARKS, LMMS_EVAL, VLMEVALKIT, Benchmark
from easi_eval.core.errors import EasiError
from easi_eval.scores.row_table import ROW_COLUMNS, frame, rows_csv, rows_from_csv
from genuine import genuine

ODD = [
    "",
    "\\N",
    "\\",
    "\\\\n",
    "a\nb",
    "a\r\nb",
    "\r",
    "\x00",
    "\ud800",
    "é\u2028",
    "None",
    "NA",
    "nan",
    "=1+1",
    '"',
    '","',
    "x" * 200_000,
    "\ufeffA",
    "\\u0041",
    "tab\there",
    "日本",
    "😀",
]


def row(number: int, text: str | None) -> dict[str, object]:
    return {
        "benchmark": "blink",
        "item": str(number),
        "question_type": text or "",
        "answer": text,
        "extracted": text,
        "target": text,
        "score": number / 7,
        "parsed": None,
        "cluster": "",
        "options": None,
        "coin_flip": number % 2 == 0,
        "failed": number % 3 == 0,
    }


def test_odd_texts_and_missing_values_come_back() -> None:
    rows = frame(row(number, text) for number, text in enumerate([*ODD, None]))
    written = rows_csv(rows)
    pd.testing.assert_frame_equal(rows_from_csv(written), rows)
    assert rows_csv(rows_from_csv(written)) == written
    # a line each, whatever the answers hold
    assert written.count(b"\n") == len(rows) + 1 and b"\r" not in written


def test_any_text_comes_back() -> None:
    luck = random.Random(5)
    pool = [
        chr(code)
        for code in (*range(0x180), *range(0x2020, 0x2030), 0xD83D, 0xDE00, 0xFEFF, 0x1F600)
    ]
    rows = frame(
        row(number, "".join(luck.choices(pool, k=luck.randrange(12)))) for number in range(2000)
    )
    pd.testing.assert_frame_equal(rows_from_csv(rows_csv(rows)), rows)


@pytest.mark.parametrize("bench", BENCHMARKS, ids=lambda bench: bench.key)
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_both_backends_come_back(bench: Benchmark, backend: str) -> None:
    read = {VLMEVALKIT: read_vlmevalkit_rows, LMMS_EVAL: read_lmms_rows}[backend]
    rows = read(bench, genuine(backend, bench))
    pd.testing.assert_frame_equal(rows_from_csv(rows_csv(rows)), rows)
    assert rows_csv(rows) == rows_csv(rows.copy())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace("cluster", "clusters", 1),
        lambda text: text.replace("true", "yes", 1),
        lambda text: text + "one,more\n",
        lambda text: text.replace("0.0", "zero", 1),
        lambda text: text.replace("\\N", "\\q", 1),
        lambda text: "",
    ],
)
def test_a_changed_file_is_an_error(change: Callable[[str], str]) -> None:
    text = rows_csv(frame([row(0, "A"), row(1, None)])).decode()
    assert change(text) != text
    with pytest.raises(EasiError, match="per-question table"):
        rows_from_csv(change(text).encode())


def test_pandas_reads_it() -> None:
    read = pd.read_csv(
        io.BytesIO(rows_csv(frame([row(0, "A"), row(1, "B\nC")]))), keep_default_na=False
    )
    assert tuple(read.columns) == ROW_COLUMNS and list(read["answer"]) == ["A", "B\\nC"]
