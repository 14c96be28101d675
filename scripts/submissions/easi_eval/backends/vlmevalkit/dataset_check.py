"""Check that adopted files of VLMEvalKit are about the questions of the dataset's table.

Question texts, options and right answers are compared.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import VLMEVALKIT, Benchmark, RowRule, TsvData
from ...config import RULES
from ...core.atomic_files import file_digest
from ...core.errors import EasiError
from ...engine.work import ItemList
from ...scores.outputs import Outputs
from ..base import DatasetMatch
from ..shared.dataset_match import Differences, refuse_differences, refuse_other_items, same
from .question_rows import read_by_rules
from .sheets import cell_text, read_sheet, read_tsv, tsv_items

if TYPE_CHECKING:
    import pandas as pd

ASKED = re.compile(r"question|input_prompt|options|candidates|[A-Z]")
# How to get a dataset's table, for people; {repo}, {name} and {folder} are filled in.
GET_TABLE = "huggingface-cli download --repo-type dataset {repo} {name} --local-dir {folder}"


def dataset_items(bench: Benchmark, dataset_dir: Path) -> tuple[Path, ItemList]:
    """Return the dataset's table and its questions.

    Raises:
        EasiError: The table is not in ``dataset_dir``; the message says how to get it.
    """
    data = bench.source(VLMEVALKIT).data
    assert isinstance(data, TsvData)
    for name in (data.tsv_local or data.tsv, data.tsv):
        if (table := dataset_dir / name).is_file():
            ids = tsv_items(table)
            return table, ItemList(bench.key, len(ids), ids)
    get = GET_TABLE.format(repo=data.repo, name=data.tsv, folder=dataset_dir)
    raise EasiError(
        f"the number of questions is in {data.tsv}, which is not in {dataset_dir}: {get}"
    )


def compare_with_table(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame, table: Path, items: ItemList
) -> DatasetMatch:
    """Compare results with the dataset's table.

    The ids are 0, 1, 2 ... in most tables, so the texts of the questions are compared as well.

    Raises:
        EasiError: Questions or right answers differ.
    """
    refuse_other_items(rows, items)
    found = compare(bench.source(VLMEVALKIT).rows, row_cells(bench, out), table)
    refuse_differences(found, table.name)
    return DatasetMatch(items, {"md5": file_digest(table, "md5")})


def row_cells(bench: Benchmark, out: Outputs) -> dict[str, dict[str, Any]]:
    """Return the cells of the per-question file, by item and column."""
    rule, path = bench.source(VLMEVALKIT).rows, out.rows[0]
    header, cells = read_sheet(path) if path.suffix == ".xlsx" else read_tsv(path)
    rows = [dict(zip(header, line, strict=False)) for line in cells]
    return {cell_text(row.get(rule.item)): row for row in rows}


def compare(rule: RowRule, rows: Mapping[str, Mapping[str, Any]], table: Path) -> Differences:
    """Return the items that differ from the dataset's TSV.

    Columns that are missing from either side are not compared.

    Args:
        rule: Where the facts of a question are in the per-question file.
        rows: The cells of the per-question file, by item and column.
        table: The dataset's TSV.

    Raises:
        EasiError: The TSV cannot be read.
    """
    questions, truths = [], []
    csv.field_size_limit(1 << 30)  # images stand in their rows as base64
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                index = line.get("index") or ""
                item = str(int(index)) if index.isdecimal() else index
                row = rows.get(item)
                if row is None:
                    continue
                asked = [name for name in line if name and ASKED.fullmatch(name) and name in row]
                if any(not same(row[name], line[name]) for name in asked):
                    questions.append(item)
                elif (
                    rule.target in line
                    and rule.target in row
                    and not same(row[rule.target], line[rule.target])
                ):
                    truths.append(item)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EasiError(
            f"{table} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error
    return Differences(tuple(questions), tuple(truths))


def refuse_stale(bench: Benchmark, rows: pd.DataFrame) -> None:
    """Refuse scores of earlier answers, told by one bare letter whose score contradicts it."""
    if bench.source(VLMEVALKIT).family != "mcq":
        return
    stale = [
        item
        for item, answer, target, score in zip(
            *(rows[name] for name in ("item", "answer", "target", "score")), strict=True
        )
        if re.fullmatch(r"[A-D]", answer.strip())
        and re.fullmatch(r"[A-D]", target.strip())
        and (answer.strip() == target.strip()) != (score == 1)
    ]
    if stale:
        raise EasiError(
            f"question {stale[0]} (of {len(stale)}) has the score of an earlier answer: "
            f"VLMEvalKit keeps old scores in *_result.pkl when answers are generated again"
        )


def refuse_rules(bench: Benchmark, out: Outputs, method: str) -> None:
    """Refuse answers that were read by rules in files that carry a judge's name (``method``)."""
    if method not in ("", RULES) and (left := read_by_rules(bench, out)):
        raise EasiError(
            f"{left} answers were scored by rules, though the files have the judge's name "
            f"{method}: VLMEvalKit falls back to rules silently"
        )
