r"""The per-question table: its columns, and the table as a CSV file that is read back without loss.

Cells follow the text format of PostgreSQL's COPY
(https://www.postgresql.org/docs/current/sql-copy.html): ``\N`` is a missing value; in texts a
backslash is doubled, and control characters, line separators and lone surrogates are escaped.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from ..core.errors import EasiError

# benchmark      registry key
# item           as in the answer journal: VLMEvalKit's index; lmms-eval's "task:doc_id"
# question_type  the question's category, by which sub-scores are grouped
# answer         the model's text, exactly
# extracted      what the backend took from the answer; None where its files do not say
# target         the right answer, as text
# score          0-1
# parsed         whether the backend could read the answer; missing where its files do not say
# cluster        the scene or image, shared by all questions about it; "" where the files do not say
# options        number of options (SITE)
# coin_flip      whether the score rests on a random letter; missing where the files do not say
# variant        the form of the question: 3DSRBench's qid (XXXXXXXX, -n, -flip, -flip-n); else ""
# rule           how the score follows from extracted and target: "letter" or "number"; "" where it
#                does not (see recompute.py)
# failed         whether the model gave no answer: score 0, not given to the backend's evaluator
ROW_COLUMNS = (
    "benchmark",
    "item",
    "question_type",
    "answer",
    "extracted",
    "target",
    "score",
    "parsed",
    "cluster",
    "options",
    "coin_flip",
    "variant",
    "rule",
    "failed",
)

# Further columns of ``Reader.questions``, for people:
# question       the question with its options, or the prompt; "" where the files do not have it
# media          names of its images and videos, one per line; paths as in the file
ASKED_COLUMNS = ("question", "media")

# The set that a variant of a 3DSRBench question belongs to, by its qid: XXXXXXXX, XXXXXXXX-n,
# XXXXXXXX-flip or XXXXXXXX-flip-n (n: the options are rotated).
SETS: Mapping[str, Callable[[str], str]] = {
    "flip": lambda qid: qid.replace("-flip", ""),
    "circular": lambda qid: qid[:13] if "-flip" in qid else qid[:8],
    "flip_circular": lambda qid: qid[:8],
}

# Texts stay Python objects: the string type of pandas rejects lone surrogates and turns None into
# NaN.
_TYPES: dict[str, Any] = {
    "benchmark": object,
    "item": object,
    "question_type": object,
    "answer": object,
    "extracted": object,
    "target": object,
    "score": "float64",
    "parsed": "boolean",
    "cluster": object,
    "options": "Int64",
    "coin_flip": "boolean",
    "variant": object,
    "rule": object,
    "failed": "bool",
    "question": object,
    "media": object,
}
# Defaults for columns that a record may leave out.
_DEFAULTS = {"variant": "", "rule": "", "failed": False, "question": "", "media": ""}

MISSING = "\\N"
AGAIN = "it is not a per-question table, or it was changed"
_UNSAFE = re.compile(r"[\\\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(u[0-9a-f]{4}|.?)", re.DOTALL)
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_LONG = {short[1]: char for char, short in _SHORT.items()}
_NUMBERS = ("score",)
_COUNTS = ("options",)
_FLAGS = ("parsed", "coin_flip", "failed")
_WRITE: Mapping[str, Callable[[Any], str]] = {
    **{name: lambda value: repr(float(value)) for name in _NUMBERS},
    **{name: lambda value: str(int(value)) for name in _COUNTS},
    **{name: lambda value: "true" if value else "false" for name in _FLAGS},
}


def frame(records: Iterable[Mapping[str, Any]], asked: bool = False) -> pd.DataFrame:
    """Return a table with ROW_COLUMNS, made from one mapping per question.

    A mapping may leave out ``variant``, ``rule`` and ``failed``. With ``asked`` the table has
    ASKED_COLUMNS too.
    """
    listed = [{**_DEFAULTS, **record} for record in records]
    columns = (*ROW_COLUMNS, *(ASKED_COLUMNS if asked else ()))
    return pd.DataFrame(
        {name: pd.Series([r[name] for r in listed], dtype=_TYPES[name]) for name in columns}
    )


def rows_csv(rows: pd.DataFrame) -> bytes:
    r"""Return the table as CSV in UTF-8 with ``\n`` line ends and ROW_COLUMNS as header.

    ``score`` is written with all its digits, flags as ``true`` and ``false``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ROW_COLUMNS)
    columns = [map(_cell_of(name), rows[name].tolist()) for name in ROW_COLUMNS]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode("utf-8")


def rows_from_csv(data: bytes) -> pd.DataFrame:
    """Return the table that ``rows_csv`` wrote.

    Raises:
        EasiError: The text is not what ``rows_csv`` writes; the message names the line.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EasiError(f"the per-question table is not UTF-8: {error}", hint=AGAIN) from error
    # An answer may be longer than the default limit of the csv module for one cell.
    limit = csv.field_size_limit(1 << 30)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise EasiError(f"the per-question table cannot be read: {error}", hint=AGAIN) from error
    finally:
        csv.field_size_limit(limit)
    if not lines or tuple(lines[0]) != ROW_COLUMNS or not text.endswith("\n"):
        raise EasiError("the per-question table has other columns or is cut off", hint=AGAIN)
    records = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(ROW_COLUMNS):
            raise EasiError(
                f"the per-question table, line {number}: {len(line)} cells under "
                f"{len(ROW_COLUMNS)} headings",
                hint=AGAIN,
            )
        try:
            records.append(
                {name: _value(name, cell) for name, cell in zip(ROW_COLUMNS, line, strict=True)}
            )
        except ValueError as error:
            raise EasiError(
                f"the per-question table, line {number}: {error}", hint=AGAIN
            ) from error
    return frame(records)


def _cell_of(name: str) -> Callable[[Any], str]:
    """Return the function that writes the values of a column."""
    write = _WRITE.get(name, _text)

    def cell(value: Any) -> str:
        return MISSING if value is None or value is pd.NA or value != value else write(value)

    return cell


def _text(value: Any) -> str:
    text = str(value)
    if text.isprintable() and "\\" not in text:  # nearly all are, and the search takes longer
        return text
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), text)


def _value(name: str, cell: str) -> Any:
    if cell == MISSING:
        return None
    if name in _NUMBERS:
        return float(cell)
    if name in _COUNTS:
        return int(cell)
    if name in _FLAGS:
        if cell not in ("true", "false"):
            raise ValueError(f"{name} is {cell!r}, not true or false")
        return cell == "true"
    return _ESCAPED.sub(_unescaped, cell)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    if code not in _LONG:
        raise ValueError(f"no character is written {found[0]!r}")
    return _LONG[code]


# The path of a snapshot in a hub cache. It differs between machines and does not identify the
# scene.
_SNAPSHOT = re.compile(r"[^'\"\s]*/snapshots/[0-9a-f]+/")


def cluster_of(text: str, chars: int = 0) -> str:
    """Return the value of the cluster column, made from the text in a result file.

    Paths into a hub cache are removed. If ``chars`` is not 0, the text is cut to so many
    characters.
    """
    text = _SNAPSHOT.sub("", text)
    return text[:chars] if chars else text
