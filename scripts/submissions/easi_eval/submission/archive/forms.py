"""The smaller forms of a file in the archive, and how to restore it for the readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...benchmarks import VLMEVALKIT, Source
from ...core.errors import EasiError
from . import compact
from .cells import Cells, read_cells, write_cells
from .compact import Key

SAMPLES, WORKBOOK, REST = "samples", "workbook", "rest"
SAID = {
    SAMPLES: "columns that repeat others are stored once",
    WORKBOOK: "rewritten plainly, cell for cell",
    REST: "only the texts that the workbook beside it does not hold exactly",
}
DAMAGED = "the archive was changed, or cut off"
# Members of lmms-eval's samples that come from the dataset (lmms_eval/evaluator.py). Those in a
# metric's object depend on the task.
PROMPTS = ("input", "input_media")
DATASET_MEMBERS = ("question", "query", "options")
# Columns that VLMEvalKit's classes add to a table from the dataset's own.
MORE_COLUMNS = (
    "question",
    "hint",
    "input_prompt",
    "image",
    "image_path",
    "video",
    "video_path",
    "options",
    "candidates",
    "A",
    "B",
    "C",
    "D",
    "E",
    "F",
)

Other = Callable[[str], bytes]  # another file of the archive, by name


@dataclass(frozen=True)
class Leave:
    """What may be left out of one benchmark's files.

    ``columns`` are left out of workbooks and samples. Of the list in column ``first_only`` only the
    first value is kept.
    """

    columns: frozenset[str] = frozenset()
    first_only: str = ""


@dataclass(frozen=True)
class Form:
    """How a file is stored.

    An empty ``name`` means unchanged. ``beside`` is the workbook that holds the other answers,
    ``left_out`` the names of omitted columns.
    """

    name: str = ""
    key: Key | None = None
    beside: str = ""
    left_out: tuple[str, ...] = ()

    def said(self) -> str:
        """The form in words, for ``CHANGES.md``."""
        return SAID.get(self.name, "") + (
            f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        )

    def to_json(self) -> dict[str, Any]:
        """The form as JSON values, without empty ones."""
        value = {
            "name": self.name,
            "beside": self.beside,
            "left_out": list(self.left_out),
            "key": self.key.to_json() if self.key else None,
        }
        return {name: each for name, each in value.items() if each}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Form:
        """Read what ``to_json`` made; EasiError for a form that this version does not know."""
        name = str(value.get("name", ""))
        if (
            name not in ("", *SAID)
            or (name == SAMPLES) != ("key" in value)
            or (name == REST) != ("beside" in value)
        ):
            raise EasiError(
                f"the archive has a file in a form {name!r} that is not known", hint=DAMAGED
            )
        return cls(
            name,
            Key.from_json(value["key"]) if "key" in value else None,
            str(value.get("beside", "")),
            tuple(map(str, value.get("left_out", ()))),
        )


def leave_of(backend: str, source: Source) -> Leave:
    """Columns of a source's files that repeat the dataset and that no per-question table needs."""
    rule = source.rows
    needed = {value for each in fields(rule) for value in _texts(getattr(rule, each.name))}
    if backend == VLMEVALKIT:
        columns = {
            *source.data.columns,
            *getattr(source.data, "columns_optional", ()),
            *MORE_COLUMNS,
        }
        return Leave(frozenset(columns - needed))
    return Leave(
        frozenset({*PROMPTS, *DATASET_MEMBERS} - needed),
        rule.cluster if rule.cluster in PROMPTS else "",
    )


def _texts(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()


def fold(
    name: str, data: bytes, other: Other, names: Collection[str], leave: Leave
) -> tuple[bytes, Form]:
    """A file in its smaller form, without the columns that ``leave`` names.

    Files that have no smaller form, or could not be restored from it, are returned unchanged.

    Args:
        name: The file's name in the archive.
        data: Its content.
        other: Reads another file of the archive by name.
        names: All files of the archive.
        leave: What to leave out.
    """
    if name.endswith(".xlsx"):
        return _fold_workbook(data, leave)
    if name.endswith(".jsonl") and "_samples_" in name:
        return _fold_samples(data, leave)
    if name.endswith(".jsonl") and (beside := _workbook_beside(name, names)):
        return _fold_answers(data, beside, other)
    return data, Form()


def unfold(data: bytes, form: Form, other: Other) -> bytes:
    """Restore a file for the readers; EasiError for what ``fold`` does not make."""
    if form.name == SAMPLES:
        assert form.key is not None
        return "".join(line + "\n" for line in compact.restore(_lines(data), form.key)).encode(
            "utf-8"
        )
    if form.name == REST:
        return _unfold_answers(data, other(form.beside))
    return data


# ---- samples


def _lines(data: bytes) -> list[str]:
    try:
        return data.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise EasiError(f"a samples file is not UTF-8: {error}", hint=DAMAGED) from error


def _fold_samples(data: bytes, leave: Leave) -> tuple[bytes, Form]:
    try:
        lines = data.decode("utf-8").split("\n")
        if lines.pop():
            return data, Form()  # no newline at the end: cut off, or written differently
        if leave.first_only:
            lines = [_first_only(line, leave.first_only) for line in lines]
    except ValueError:
        return data, Form()
    made = compact.compact(
        lines, lambda path: path[-1] in leave.columns or path[0] in leave.columns
    )
    if made is None:
        return data, Form()
    rows, key = made
    gone = sorted({path[-1] for path in key.left_out}) + (
        [f"{leave.first_only} but for its first"] if leave.first_only else []
    )
    return "".join(row + "\n" for row in rows).encode("utf-8"), Form(
        SAMPLES, key, left_out=tuple(gone)
    )


def _first_only(line: str, name: str) -> str:
    sample = json.loads(line)
    if isinstance(sample.get(name), list):
        sample[name] = sample[name][:1]
    return compact.dumps(sample)


# ---- workbooks


@lru_cache(maxsize=64)
def _cells(data: bytes) -> tuple[str, Cells]:
    """Title and cells of a workbook, not to be changed.

    Cached because reading is slow and several forms need the same cells.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.xlsx"
        path.write_bytes(data)
        return read_cells(path)


def forget() -> None:
    """Free the memory of the workbooks that were read."""
    _cells.cache_clear()


def _fold_workbook(data: bytes, leave: Leave) -> tuple[bytes, Form]:
    """Empty the columns to leave out; their names and the places of all cells stay."""
    title, rows = _cells(data)
    header = rows[0] if rows else []
    gone = [place for place, name in enumerate(header) if name in leave.columns]
    kept = (
        [[None if place in gone else cell for place, cell in enumerate(row)] for row in rows[1:]]
        if gone
        else rows[1:]
    )
    return write_cells(title, [header, *kept]), Form(
        WORKBOOK, left_out=tuple(str(header[place]) for place in gone)
    )


# ---- exact answers beside a workbook


def _workbook_beside(name: str, names: Collection[str]) -> str:
    """The per-question workbook of an answers file: the only one whose name starts like it."""
    stem = name.removesuffix(".jsonl")
    found = [
        other
        for other in sorted(names)
        if other.startswith(f"{stem}_")
        and other.endswith(".xlsx")
        and other.count("/") == name.count("/")
    ]
    return found[0] if len(found) == 1 else ""


def _answer_cells(data: bytes) -> dict[str, str]:
    """Predictions by index, both as text, in the workbook's order."""
    _, rows = _cells(data)
    header = list(rows[0]) if rows else []
    if "index" not in header or "prediction" not in header:
        return {}
    index, prediction = header.index("index"), header.index("prediction")
    return {_text(row[index]): _text(row[prediction]) for row in rows[1:] if row[index] is not None}


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _fold_answers(data: bytes, beside: str, other: Other) -> tuple[bytes, Form]:
    """Keep only the lines that differ from the workbook's cell."""
    try:
        lines = [(json.loads(line), line) for line in data.decode("utf-8").splitlines()]
        cells = _answer_cells(other(beside))
        if [set(each) for each, _ in lines] != [{"index", "prediction"}] * len(lines):
            return data, Form()
    except (ValueError, TypeError):
        return data, Form()
    if set(cells) != {str(each["index"]) for each, _ in lines}:
        return data, Form()
    rest = [line for each, line in lines if cells[str(each["index"])] != each["prediction"]]
    return "".join(line + "\n" for line in rest).encode("utf-8"), Form(REST, beside=beside)


def _unfold_answers(data: bytes, workbook: bytes) -> bytes:
    try:
        rest = {
            str(each["index"]): str(each["prediction"])
            for each in map(json.loads, data.decode("utf-8").splitlines())
        }
    except (ValueError, KeyError, TypeError) as error:
        raise EasiError(f"a file of answers is damaged: {error!r}", hint=DAMAGED) from error
    answers = {**_answer_cells(workbook), **rest}
    return "".join(
        json.dumps({"index": item, "prediction": text}) + "\n" for item, text in answers.items()
    ).encode("utf-8")
