"""The per-question table of a benchmark, from the files of VLMEvalKit."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ...benchmarks import VLMEVALKIT, Benchmark, RowRule, TsvData
from ...core.errors import EasiError
from ...scores.outputs import Outputs
from ...scores.row_table import cluster_of, frame
from ...scores.scorer_notes import ScorerNotes, failed_records
from .sheets import AGAIN, cell_text, parse_number, read_sheet, read_tsv

# The number that the package assumes if it cannot count the options (spatial_bench/cal_scores.py,
# _ensure_options_count_row).
DEFAULT_OPTIONS = 4
# Written by the package into the log column of BLINK and 3DSRBench (utils/multiple_choice.py).
NOT_MATCHED = "Failed in Prefetch"
RANDOM_LETTER = "Failed to predict, thus randomly generate one"
LOG_PREFIX = "Match Log: "  # precedes both of them (eval_vanilla)


def _count_options(cell: Any) -> int:
    try:
        listed = ast.literal_eval(cell_text(cell))
    except (ValueError, SyntaxError):
        return DEFAULT_OPTIONS
    return len(listed) if isinstance(listed, list) and listed else DEFAULT_OPTIONS


def _log(row: Mapping[str, Any]) -> str:
    return cell_text(row.get("log")).removeprefix(LOG_PREFIX)


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
    return next((RULES.get(name, "") for name in rule.score if cell_text(row.get(name)) != ""), "")


def _score(rule: RowRule, row: Mapping[str, Any], where: str) -> float:
    for name in rule.score:
        cell = row.get(name)
        value = parse_number(str(float(cell)) if isinstance(cell, bool) else cell_text(cell), where)
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


def read_vlmevalkit_rows(bench: Benchmark, out: Outputs, asked: bool = False) -> pd.DataFrame:
    """Return the per-question table with ROW_COLUMNS, in the order of the file.

    With ``asked`` it has ASKED_COLUMNS too.

    Answers come from the JSONL file of our own run if there is one, because a cell of an xlsx file
    cannot hold every text.

    Raises:
        EasiError: Columns, scores or rows are missing, or a file is damaged.
    """
    rule = bench.source(VLMEVALKIT).rows
    path = out.rows[0]
    header, cells = read_sheet(path) if path.suffix == ".xlsx" else read_tsv(path)
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
        # ViewSpatial's file has question_type twice: the first one counts.
        row: dict[str, Any] = dict(zip(reversed(header), reversed(line), strict=True))
        extracted = row.get(rule.extracted) if rule.extracted else None
        item = cell_text(row[rule.item])
        if exact is not None and item not in exact:
            raise EasiError(
                f"{out.rows[1]} has no answer to question {item} of {path.name}", hint=AGAIN
            )
        answer = cell_text(row["prediction"]) if exact is None else exact[item]
        records.append(
            {
                "benchmark": bench.key,
                "item": item,
                **question_facts(rule, row),
                "answer": answer,
                "extracted": None
                if extracted is None or extracted is False
                else cell_text(extracted),
                "score": _score(rule, row, f"{path}, row {number}"),
                "parsed": _parsed(rule, row, answer),
                "coin_flip": _log(row).startswith(RANDOM_LETTER),
                "rule": _rule(rule, row),
                **(asked_of(bench, row) if asked else {}),
            }
        )
    failed = failed_records(bench.key, ScorerNotes.of(path, out.folder).failed)
    return frame([*records, *failed], asked)


_LETTERS = "ABCDEFGHIJ"
_QUOTED = re.compile(r"""['"]([^'"]+)['"]""")
_MEDIA = ("image_path", "video_path", "video", "ref_images")


def asked_of(bench: Benchmark, row: Mapping[str, Any]) -> dict[str, str]:
    """Return the question with its options, and the names of its media, from a workbook's row.

    An image that was in the table has the name under which the package keeps it in the folder of
    datasets.
    """
    lettered = [f"{name}. {text}" for name in _LETTERS if (text := cell_text(row.get(name)))]
    listed = cell_text(row.get("options")) or cell_text(row.get("candidates"))
    options = lettered or _listed(listed)
    if not lettered and options and not any(each.startswith("A") for each in options[:1]):
        options = [f"{chr(65 + at)}. {text}" for at, text in enumerate(options)]
    question = cell_text(row.get("user_prompt")) or cell_text(row.get("question"))
    named = next((names for name in _MEDIA if (names := _paths(cell_text(row.get(name))))), [])
    if not named:
        source = bench.source(VLMEVALKIT)
        assert isinstance(source.data, TsvData)
        named = [f"images/{source.data.dataset}/{cell_text(row[source.rows.item])}"]
    return {"question": "\n".join([question, *options]), "media": "\n".join(named)}


def _paths(text: str) -> list[str]:
    """Return the paths in a list of them, at any depth; evaluating lists of frames is slow."""
    return _QUOTED.findall(text) if text.startswith("[") else [text] if text else []


def _listed(text: str) -> list[str]:
    """Return the members of a list as the package writes it, or the text as the only one."""
    if not text.startswith("["):
        return [text] if text else []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [text]
    return [str(each) for each in value]


def question_facts(rule: RowRule, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the per-question table that do not depend on the answer.

    ``row`` is the question's row in the dataset or in a result file.
    """
    return {
        "question_type": cell_text(row[rule.question_type]),
        "target": cell_text(row[rule.target]),
        "cluster": cluster_of(cell_text(row.get(rule.cluster)), rule.cluster_chars),
        "options": _count_options(row.get(rule.options)) if rule.options else None,
        "variant": cell_text(row.get(rule.variant)) if rule.variant else "",
    }


def read_by_rules(bench: Benchmark, out: Outputs) -> int:
    """Return how many rows of a judge's file were in fact read by rules.

    The package falls back to its rules without a message: for all rows, or for all rows of one
    question type where types have separate judges (VSI-Bench).
    """
    rule, path = bench.source(VLMEVALKIT).rows, out.rows[0]
    header, cells = read_sheet(path) if path.suffix == ".xlsx" else read_tsv(path)
    rows = [dict(zip(header, line, strict=False)) for line in cells]
    if rule.unparsed_when == "log":
        return sum(_log(row).startswith(NOT_MATCHED) for row in rows)
    return sum(
        cell_text(row.get("judge_grade")) == "" for row in rows if row.get("task_type") != "SPECIAL"
    )


# The movements that VLMEvalKit's SPAR-Bench reads from an answer about a change of view, such as
# "move_right:0.3,rotate_up:10" (dataset/sparbench.py).
_MOVEMENTS = frozenset(
    f"{kind}_{way}"
    for kind, ways in {
        "move": ("right", "left", "up", "down", "forward", "backward"),
        "rotate": ("right", "left", "up", "down"),
    }.items()
    for way in ways
)


def names_movement(answer: str) -> bool:
    """Return whether an answer about a change of view names a movement with a number.

    VLMEvalKit scores an answer that names none as if it said that the camera stands still.
    """
    return any(
        name.strip() in _MOVEMENTS and _is_number(value)
        for name, _, value in (part.partition(":") for part in answer.split(","))
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
