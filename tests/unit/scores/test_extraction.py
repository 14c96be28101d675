"""What a judge changed, and what the report, the payload and the readers make of judged files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from easi_eval.backends.vlmevalkit.question_rows import read_by_rules, read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.config import RULES
from easi_eval.scores import extraction
from easi_eval.scores.judging import Policy, by_rules, judged, not_judged
from easi_eval.scores.outputs import JUDGED
from easi_eval.scores.score_table import BenchmarkScore, Reading, ScoreTable, State
from easi_eval.submission.payload import build_payload
from genuine import genuine

J = "gpt-4o-1120"


def rows_of(key: str) -> pd.DataFrame:
    bench = by_key(key)
    return read_vlmevalkit_rows(bench, genuine(VLMEVALKIT, bench))


def score(value: float = 50.0, unparsed: int | None = 26, failed: int = 0) -> BenchmarkScore:
    return BenchmarkScore(
        "blink",
        Reading(value, {"counting": 1.0}),
        n=1000,
        total=1000,
        state=State.COMPLETE,
        unparsed=unparsed,
        failed=failed,
    )


# ---- what moved ----------------------------------------------------------------------------------


def test_moved_rows_are_found_by_question_whatever_their_order() -> None:
    bench = by_key("blink")
    rules = rows_of("blink").assign(score=0.0, parsed=True)
    rules.loc[1, "score"] = 1.0
    after = rules.copy()
    after.loc[[0, 2], "score"] = 1.0
    after.loc[1, "score"] = 0.0
    found = extraction.judge_changes(bench, bench.source(VLMEVALKIT), rules, after.iloc[::-1])
    items = [str(item) for item in rules["item"]]
    assert found.rows == ((items[0], 0.0, 1.0), (items[1], 1.0, 0.0), (items[2], 0.0, 1.0))
    assert (found.up, found.down) == (2, 1)
    assert found.only_unread == pytest.approx(100 / len(rules)), (
        "all were readable: the diagnosis is the score by rules"
    )


def test_the_diagnosis_takes_the_judge_only_for_what_was_unread() -> None:
    bench = by_key("vsi_bench")
    rules = rows_of("vsi_bench").assign(score=0.0, parsed=True)
    rules.loc[0, "parsed"] = False
    after = rules.assign(score=1.0)
    found = extraction.judge_changes(bench, bench.source(VLMEVALKIT), rules, after)
    one_right = rules.copy()
    one_right.loc[0, "score"] = 1.0
    from easi_eval.scores.recompute import recompute

    assert found.only_unread == recompute(bench, bench.source(VLMEVALKIT), one_right).overall
    assert 0 < found.only_unread < 100 and found.up == len(rules)


# ---- the report ----------------------------------------------------------------------------------


def test_an_entry_for_each_way_it_can_end(tmp_path: Path) -> None:
    policy, rules = Policy(J), score(failed=10)
    ends = {
        "judged": (
            policy,
            judged(rules, score(61.0), J),
            extraction.JudgeChanges(2, 1, (("7", 0.0, 1.0),), 55.0),
        ),
        "open": (policy, by_rules(policy, rules), None),
        "failed": (policy, not_judged(rules, J, "HTTP 500"), None),
        "none": (
            Policy(why_none="no judge is configured"),
            by_rules(Policy(why_none="no judge is configured"), rules),
            None,
        ),
        "rules": (Policy(named=True), by_rules(Policy(named=True), rules), None),
    }
    for name, (asked, final, change) in ends.items():
        (tmp_path / name).mkdir()
        extraction.save_entry(tmp_path / name, extraction.make_entry(asked, rules, final, change))
    found = extraction.make_report((name, tmp_path / name) for name in (*ends, "nothing there"))[
        "benchmarks"
    ]
    assert set(found) == set(ends)
    for entry in found.values():
        assert (entry["total"], entry["failed"], entry["rate"]) == (990, 26, 26 / 990), (
            "a question that failed has no answer to read"
        )
    assert [found[name]["threshold"] for name in ends] == [0.025, 0.025, 0.025, 0.025, None]
    assert [found[name]["method"] for name in ends] == [J, RULES, RULES, RULES, RULES]
    assert [found[name]["state"] for name in ends] == [
        "complete",
        "incomplete",
        "incomplete",
        "complete",
        "complete",
    ]
    assert found["judged"]["scores"] == {RULES: 50.0, J: 61.0} and found["judged"]["diagnosis"] == {
        "only_unread_judged": 55.0
    }
    assert found["judged"]["moved"] == {
        "up": 2,
        "down": 1,
        "rows": [{"item": "7", "before": 0.0, "after": 1.0}],
    }
    assert (
        found["none"]["why_not_judged"] == "no judge is configured"
        and found["rules"]["why_not_judged"] == ""
    )
    json.dumps(found, allow_nan=False)


def test_a_damaged_entry_costs_no_more_than_itself(tmp_path: Path) -> None:
    for name, text in (("torn", '{"schema"'), ("other", '{"schema": 99}'), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / extraction.ENTRY).write_text(text)
    assert (
        extraction.make_report((name, tmp_path / name) for name in ("torn", "other", "list"))[
            "benchmarks"
        ]
        == {}
    )


# ---- the payload ---------------------------------------------------------------------------------


def test_a_judged_benchmark_has_both_scores_in_the_payload() -> None:
    both = build_payload(
        ScoreTable((judged(score(), score(61.23456), J),), "org/m", "vlmevalkit"), "vlmevalkit"
    )
    assert {key: value for key, value in both["scores"].items() if key.startswith("blink")} == {
        "blink": 61.2346,
        f"blink_{RULES}": 50.0,
        f"blink_{J}": 61.2346,
    }
    assert f"judged by {J}" in both["remarks"]


@pytest.mark.parametrize(
    "row", [by_rules(Policy(J), score(unparsed=0)), by_rules(Policy(), score())]
)
def test_one_by_rules_has_one(row: BenchmarkScore) -> None:
    scores = build_payload(ScoreTable((row,), "org/m", "vlmevalkit"), "vlmevalkit")["scores"]
    assert [key for key in scores if key.startswith("blink")] == ["blink"] and scores[
        "blink"
    ] == 50.0


def test_an_open_one_has_none() -> None:
    scores = build_payload(
        ScoreTable((not_judged(score(), J, "x"),), "org/m", "vlmevalkit"), "vlmevalkit"
    )["scores"]
    assert [value for key, value in scores.items() if key.startswith("blink")] == [None]


def test_corrected_scores_are_no_judged_ones() -> None:
    row = replace(
        score(), method="corrected", by_method={"stock": Reading(1.0), "corrected": Reading(50.0)}
    )
    scores = build_payload(ScoreTable((row,), "org/m", "lmms-eval"), "lmmseval")["scores"]
    assert [key for key in scores if key.startswith("blink")] == ["blink"]


# ---- the package's silent fall-back --------------------------------------------------------------


def sheet_with(path: Path, target: Path, columns: dict[str, list[object]]) -> None:
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    for name, values in columns.items():
        heads = [cell.value for cell in sheet[1]]
        column = heads.index(name) + 1 if name in heads else len(heads) + 1
        sheet.cell(1, column).value = name
        for row, value in enumerate(values, start=2):
            sheet.cell(row, column).value = value
    book.save(target)


def spatial(folder: Path, grades: list[object]) -> int:
    bench = by_key("vsi_bench")
    source = genuine(VLMEVALKIT, bench)
    shutil.copy2(
        source.scores[0], folder / source.scores[0].name.replace("extract_matching", f"llm_{J}")
    )
    sheet_with(
        source.rows[0],
        folder / source.rows[0].name.replace("extract_matching", f"llm_{J}"),
        {"judge_grade": grades},
    )
    return read_by_rules(bench, find_vlmevalkit_outputs(bench, folder, J))


def test_rows_without_a_grade_were_read_by_rules(tmp_path: Path) -> None:
    count = len(rows_of("vsi_bench"))
    assert spatial(tmp_path, ["A"] * count) == 0
    assert spatial(tmp_path, ["A"] * (count - 5) + [None] * 5) == 5


@pytest.mark.parametrize(
    "log, count",
    [
        (
            "Match Log: Failed in Prefetch, no GPT-based answer matching under `exact_matching` "
            "policy.. ",
            1,
        ),
        ("Match Log: A. ", 0),
        ("Match Log: Failed to predict, thus randomly generate one. . ", 0),
    ],
)
def test_so_was_a_log_that_speaks_of_no_judge(log: str, count: int, tmp_path: Path) -> None:
    bench = by_key("blink")
    source = genuine(VLMEVALKIT, bench)
    shutil.copy2(source.scores[0], tmp_path)
    sheet_with(source.rows[0], tmp_path / source.rows[0].name.replace(RULES, J), {"log": [log]})
    assert read_by_rules(bench, find_vlmevalkit_outputs(bench, tmp_path, J)) == count


def test_what_a_judge_left_below_is_not_taken_for_the_result_by_rules(tmp_path: Path) -> None:
    bench = by_key("3dsrbench")
    source = genuine(VLMEVALKIT, bench)
    (tmp_path / JUDGED).mkdir()
    for path in source.files:
        shutil.copy2(path, tmp_path)
    for path in source.files:
        shutil.copy2(path, tmp_path / JUDGED)
        (tmp_path / JUDGED / path.name).touch()
    assert {path.parent for path in find_vlmevalkit_outputs(bench, tmp_path).files} == {tmp_path}
    assert {path.parent for path in find_vlmevalkit_outputs(bench, tmp_path / JUDGED, J).files} == {
        tmp_path / JUDGED
    }
