"""Read the result files of VLMEvalKit (ms-vlmeval 0.0.20).

Files are found by their exact names.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl
import pandas as pd

from ...benchmarks import VLMEVALKIT, Benchmark, RowRule, Source
from ...core.errors import EasiError
from ...scores.outputs import JUDGED, Outputs, newest_files
from ...scores.row_table import cluster_of, frame
from ...scores.rows import reading
from ...scores.scorer_notes import ScorerNotes, failed_records, notes_file
from ...scores.scores import Reading
from .caveats import names_movement

AGAIN = "the file is cut off or damaged: run this benchmark again with --rerun"
SETTINGS = ("vanilla", "flip_eval", "circ_eval", "flip_circ_eval")
# Judges whose names the package shortens in file names (image_mcq.py, evaluate_heuristic).
JUDGE_FILES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}
# The number that the package assumes if it cannot count the options (spatial_bench/cal_scores.py,
# _ensure_options_count_row).
DEFAULT_OPTIONS = 4
# Written by the package into the log column of BLINK and 3DSRBench (utils/multiple_choice.py).
NOT_MATCHED = "Failed in Prefetch"
RANDOM_LETTER = "Failed to predict, thus randomly generate one"
LOG_PREFIX = "Match Log: "  # precedes both of them (eval_vanilla)


def _patterns(source: Source) -> tuple[re.Pattern[str], str]:
    """Return a pattern for the score file and a template for the names of the per-question files.

    The pattern has a group ``model`` and, if the name contains it, a group ``tag`` for the
    extraction method. The template is filled with these groups and ``task`` to get a regular
    expression.
    """
    name = re.escape(source.task)
    if source.layout == "settings":
        return re.compile(rf"(?P<model>.+)_{name}_results\.tsv"), r"{model}_{task}_result\.xlsx"
    if source.family == "mcq":
        # The per-question file has the judge's name in its name, the score file does not.
        return re.compile(
            rf"(?P<model>.+)_{name}_acc\.csv"
        ), r"{model}_{task}_.+_result\.(xlsx|tsv)"
    # MMSI-Video also writes *_subset_acc.csv, after the main file.
    tag = r"(?P<tag>extract_matching|llm_.+)(?<!_subset)"
    return re.compile(rf"(?P<model>.+)_{name}_{tag}_acc\.csv"), r"{model}_{task}_{tag}\.xlsx"


def score_files(bench: Benchmark, folder: Path) -> list[tuple[Path, str, str]]:
    """Return every score file of one benchmark below ``folder``, newest first.

    Each entry is the path, the model's name and the tag of the extraction method ("" if the name
    has none).
    """
    source = bench.source(VLMEVALKIT)
    pattern = _patterns(source)[0]
    matches = [
        (path, pattern.fullmatch(path.name))
        for path in newest_files(sorted(folder.rglob(f"*{source.task}*")))
    ]
    return [
        (path, match["model"], match.groupdict().get("tag", "")) for path, match in matches if match
    ]


def find_vlmevalkit_outputs(bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
    """Return the newest score file of one benchmark and the files that belong to it.

    These are the per-question file beside it and, in our own runs, the exact answers. Files in a
    ``JUDGED`` folder below are ignored. VLMEvalKit writes no score file for 3DSRBench if a question
    failed that is part of a set; then there is only the per-question file.

    Args:
        bench: The benchmark.
        folder: The folder to search, including its subfolders.
        judge: ``extract_matching``, ``exact_matching`` or the name of a judge model; "" accepts
            any.

    Raises:
        EasiError: A file is missing; the message names it.
    """
    source = bench.source(VLMEVALKIT)
    pattern, template = _patterns(source)
    want = {
        "": "",
        "exact_matching": "extract_matching",
        "extract_matching": "extract_matching",
    }.get(judge, f"llm_{judge}")
    below = (
        sorted(
            path
            for path in folder.rglob(f"*{source.task}*")
            if JUDGED not in path.relative_to(folder).parts
        )
        if folder.is_dir()
        else []
    )
    for path in newest_files(below):
        match = pattern.fullmatch(path.name)
        found = match.groupdict() if match else {}
        if not match or (want and found.get("tag", want) != want):
            continue
        names = {
            "task": re.escape(source.task),
            **{name: re.escape(text) for name, text in found.items()},
        }
        rows = re.compile(template.format(**names))
        beside = [
            other
            for other in newest_files(below)
            if rows.fullmatch(other.name) and other.parent == path.parent
        ]
        if judge and "tag" not in found and source.layout != "settings":
            beside = [
                other
                for other in beside
                if f"_{JUDGE_FILES.get(judge, judge)}_result." in other.name
            ]
        if not beside:
            raise EasiError(
                f"{path} has no per-question file beside it",
                hint="scoring stopped early; see the log",
            )
        lossless = path.with_name(f"{found['model']}_{source.task}.jsonl")
        return _outputs(
            bench, folder, (path,), (beside[0], lossless) if lossless.is_file() else (beside[0],)
        )
    if source.layout == "settings":
        for path in newest_files(below):
            match = re.fullmatch(
                template.format(model="(?P<model>.+)", task=re.escape(source.task)), path.name
            )
            lossless = path.with_name(f"{match['model']}_{source.task}.jsonl") if match else path
            if match and lossless.is_file() and ScorerNotes.of(path, folder).failed:
                return _outputs(bench, folder, (), (path, lossless))
    what = f"{bench.title} scored by {judge}" if judge else bench.title
    raise EasiError(
        f"{folder} holds no scores of {what} (no file named {pattern.pattern})",
        hint="scoring did not finish; see the log",
    )


def _outputs(
    bench: Benchmark, folder: Path, scores: tuple[Path, ...], rows: tuple[Path, ...]
) -> Outputs:
    notes = notes_file(rows[0], folder)
    return Outputs(
        bench.key, folder, scores, rows, (notes,) if notes else (), bench.source(VLMEVALKIT).task
    )


# ---- aggregates


def _table(path: Path, delimiter: str) -> tuple[list[str], list[list[str]]]:
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


def _number(text: str, where: str) -> float | None:
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
        raise EasiError(f"{where}: {text} is no score", hint=AGAIN)
    return value


def _aggregate(path: Path, layout: str) -> dict[str, float | None]:
    """Return every number of a score file by key, in the file's own scale.

    ``layout`` is one of ``benchmarks.LAYOUTS``.
    """
    header, rows = _table(path, "," if layout == "comma" else "\t")
    if layout == "key_value":
        if header != ["metric", "value"]:
            raise EasiError(f"{path} starts with {header}, not with metric and value", hint=AGAIN)
        return {name: _number(text, f"{path}, {name}") for name, text in rows}
    if layout == "settings":
        by = {row[0]: row for row in rows}
        lacking = [name for name in SETTINGS if name not in by]
        if lacking:
            raise EasiError(f"{path} has no row {', '.join(lacking)}", hint=AGAIN)
        return {
            f"{setting}|{name}": _number(text, f"{path}, {setting}")
            for setting, row in by.items()
            for name, text in zip(header[1:], row[1:], strict=True)
        }
    wanted = 2 if layout == "wide_last_row" else 1
    if len(rows) != wanted:
        raise EasiError(f"{path} has {len(rows)} rows of numbers, not {wanted}", hint=AGAIN)
    labels = ("split",) if layout == "comma" else ()
    return {
        name: _number(text, f"{path}, {name}")
        for name, text in zip(header, rows[-1], strict=True)
        if name not in labels
    }


def read_vlmevalkit_scores(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame | None = None
) -> Reading:
    """Read the headline and the sub-scores, 0-100.

    With ``rows``, a missing number for questions that were scored is an error (see
    ``rows.reading``).
    """
    source = bench.source(VLMEVALKIT)
    path = out.scores[0]
    return reading(source, _aggregate(path, source.layout), rows, str(path))


# ---- rows


def _sheet(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """Return header and cells of the first sheet of an xlsx file.

    Texts are returned exactly as written: none becomes NaN, a number or the value of a formula.
    """
    try:
        book = openpyxl.load_workbook(path, read_only=True)
        cells = list(book.worksheets[0].iter_rows(values_only=True))
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


def _tsv(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    """Return header and cells of a TSV file (PRED_FORMAT=tsv), like ``_sheet``.

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


def _text(cell: Any) -> str:
    """Return a cell as text: "" for an empty cell, the formula's text for an array formula.

    An answer may have been taken for an array formula when the file was written.
    """
    return "" if cell is None else str(getattr(cell, "text", cell))


def _count_options(cell: Any) -> int:
    try:
        listed = ast.literal_eval(_text(cell))
    except (ValueError, SyntaxError):
        return DEFAULT_OPTIONS
    return len(listed) if isinstance(listed, list) and listed else DEFAULT_OPTIONS


def _log(row: Mapping[str, Any]) -> str:
    return _text(row.get("log")).removeprefix(LOG_PREFIX)


def _parsed(rule: RowRule, row: Mapping[str, Any], answer: str) -> bool:
    """Return whether the backend could read the answer, as far as its files show."""
    if rule.unparsed_when == "log":
        return not _log(row).startswith((NOT_MATCHED, RANDOM_LETTER))
    grade: object = row.get("judge_grade")
    if grade is not None:
        return grade != "C"
    # SPAR-Bench's view changes are parsed while they are scored, and the files do not show the
    # outcome.
    if row.get("task_type") == "SPECIAL":
        return names_movement(answer)
    cell = row.get(rule.unparsed)
    # A numeric answer may be 0, so truthiness would not do.
    return cell is not None and cell is not False


# How the value in a score column follows from the extracted answer. A judge's verdict does not
# follow from it.
RULES = {"hit": "letter", "MRA:.5:.95:.05": "number"}


def _rule(rule: RowRule, row: Mapping[str, Any]) -> str:
    if not rule.extracted or row.get("judge_grade") is not None:
        return ""
    return next((RULES.get(name, "") for name in rule.score if _text(row.get(name)) != ""), "")


def _score(rule: RowRule, row: Mapping[str, Any], where: str) -> float:
    for name in rule.score:
        cell = row.get(name)
        value = _number(str(float(cell)) if isinstance(cell, bool) else _text(cell), where)
        if value is not None:
            return value
    raise EasiError(f"{where}: no value under {' or '.join(rule.score)}", hint=AGAIN)


def _exact_answers(out: Outputs) -> dict[str, str] | None:
    """Return the answers by item from the JSONL file of our own run, None if there is none."""
    if len(out.rows) == 1:
        return None
    path = out.rows[1]
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {str(line["index"]): str(line["prediction"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error


def read_vlmevalkit_rows(bench: Benchmark, out: Outputs) -> pd.DataFrame:
    """Return the per-question table with ROW_COLUMNS, in the order of the file.

    Answers come from the JSONL file of our own run if there is one, because a cell of an xlsx file
    cannot hold every text.

    Raises:
        EasiError: Columns, scores or rows are missing, or a file is damaged.
    """
    rule = bench.source(VLMEVALKIT).rows
    path = out.rows[0]
    header, cells = _sheet(path) if path.suffix == ".xlsx" else _tsv(path)
    needed = {rule.item, rule.question_type, rule.target, rule.unparsed, "prediction"} - set(header)
    if needed or not set(header) & set(rule.score):
        lacking = ", ".join(sorted(needed)) or " or ".join(rule.score)
        raise EasiError(
            f"{path} has no column {lacking}",
            hint="it is not the per-question file this benchmark writes",
        )
    if not cells:
        raise EasiError(f"{path} has no rows", hint=AGAIN)
    exact = _exact_answers(out)
    records = []
    for number, line in enumerate(cells, start=2):
        row: dict[str, Any] = {}
        for name, cell in zip(header, line, strict=False):
            row.setdefault(name, cell)  # ViewSpatial's file has question_type twice
        extracted = row.get(rule.extracted) if rule.extracted else None
        item = _text(row[rule.item])
        if exact is not None and item not in exact:
            raise EasiError(
                f"{out.rows[1]} has no answer to question {item} of {path.name}", hint=AGAIN
            )
        answer = _text(row["prediction"]) if exact is None else exact[item]
        records.append(
            {
                "benchmark": bench.key,
                "item": item,
                **question_facts(rule, row),
                "answer": answer,
                "extracted": None if extracted is None or extracted is False else _text(extracted),
                "score": _score(rule, row, f"{path}, row {number}"),
                "parsed": _parsed(rule, row, answer),
                "coin_flip": _log(row).startswith(RANDOM_LETTER),
                "rule": _rule(rule, row),
            }
        )
    return frame([*records, *failed_records(bench.key, ScorerNotes.of(path, out.folder).failed)])


def question_facts(rule: RowRule, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the per-question table that do not depend on the answer.

    ``row`` is the question's row in the dataset or in a result file.
    """
    return {
        "question_type": _text(row[rule.question_type]),
        "target": _text(row[rule.target]),
        "cluster": cluster_of(_text(row.get(rule.cluster)), rule.cluster_chars),
        "options": _count_options(row.get(rule.options)) if rule.options else None,
        "variant": _text(row.get(rule.variant)) if rule.variant else "",
    }


def row_cells(bench: Benchmark, out: Outputs) -> dict[str, dict[str, Any]]:
    """Return the cells of the per-question file, by item and column."""
    rule, path = bench.source(VLMEVALKIT).rows, out.rows[0]
    header, cells = _sheet(path) if path.suffix == ".xlsx" else _tsv(path)
    rows = [dict(zip(header, line, strict=False)) for line in cells]
    return {_text(row.get(rule.item)): row for row in rows}


def read_by_rules(bench: Benchmark, out: Outputs) -> int:
    """Return how many rows of a judge's file were in fact read by rules.

    The package falls back to its rules without a message: for all rows, or for all rows of one
    question type where types have separate judges (VSI-Bench).
    """
    rule, path = bench.source(VLMEVALKIT).rows, out.rows[0]
    header, cells = _sheet(path) if path.suffix == ".xlsx" else _tsv(path)
    rows = [dict(zip(header, line, strict=False)) for line in cells]
    if rule.unparsed_when == "log":
        return sum(_log(row).startswith(NOT_MATCHED) for row in rows)
    return sum(
        _text(row.get("judge_grade")) == "" for row in rows if row.get("task_type") != "SPECIAL"
    )


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
