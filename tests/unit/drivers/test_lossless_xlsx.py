"""Answers that an xlsx cannot hold.

What is done about them on their way into the evaluation and into our rows.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.vlmevalkit.caveats import standing_still
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.result_files import find_vlmevalkit_outputs
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.row_table import frame
from easi_eval.scores.score_table import BenchmarkScore, Reading, State
from easi_vlmevalkit.lossless_xlsx import lossy, writable, write_predictions
from easi_vlmevalkit.patches import exact_answers
from genuine import genuine

CHOICE = ModelChoice("org/m", "org/m", "EasiVLM", "a test says so")

ODD = {
    "missing": "None",
    "short": "NA",
    "empty": "",
    "formula": "=1+1",
    "array": "{=1}",
    "control": "A\x01B",
    "return": "a\r\nb",
    "long": "x" * 40_000,
    "surrogate": "\ud800A",
    "noncharacter": "A\uffff",
    "error": "#N/A",
}
PLAIN = {
    "letter": "A",
    "nan": "nan",
    "zeros": "007",
    "number": "3.0",
    "spaces": "  B  ",
    "lines": "a\nb",
    "link": "http://a.b",
    "escape": "_x0041_",
    "tab": "a\tb",
}


def prediction_file(answers: dict[str, str], folder: Path) -> Path:
    table = pd.DataFrame(
        {"index": list(answers), "question": ["q"] * len(answers), "answer": ["1"] * len(answers)}
    )
    write_predictions(table, answers, folder / "M_D.xlsx")
    return folder / "M_D.xlsx"


def test_whoever_reads_the_file_inside_gets_the_texts(tmp_path: Path) -> None:
    answers = {**ODD, **PLAIN}
    path = prediction_file(answers, tmp_path)
    with exact_answers(path, list(answers.values())):
        table = pd.read_excel(str(path))
        # as every evaluation does
        table["prediction"] = [str(cell) for cell in table["prediction"]]
        assert list(table.sort_values(by="question", kind="stable")["prediction"]) == list(
            answers.values()
        )
        assert list(table["answer"]) == [1] * len(answers), (
            "all else is what VLMEvalKit itself would read"
        )
    assert "None" not in set(map(str, pd.read_excel(path)["prediction"])), (
        "and outside nothing is changed"
    )


def test_only_that_very_file_is_replaced(tmp_path: Path) -> None:
    path = prediction_file({"0": "A"}, tmp_path)
    pd.DataFrame({"prediction": ["other"]}).to_excel(tmp_path / "other.xlsx", index=False)
    with exact_answers(path, ["B"]):
        assert list(pd.read_excel(tmp_path / "other.xlsx")["prediction"]) == ["other"]
        assert list(pd.read_excel(tmp_path / "." / "M_D.xlsx")["prediction"]) == ["B"]


def test_another_number_of_answers_than_rows_is_an_error(tmp_path: Path) -> None:
    path = prediction_file({"0": "A", "1": "B"}, tmp_path)
    with exact_answers(path, ["A"]), pytest.raises(ValueError):
        pd.read_excel(path)


@pytest.mark.parametrize(
    "column",
    [["007", "3"], ["3", "3.5"], ["3", ""], ["True", "False"], ["1e3", "12345678901234567890"]],
)
def test_a_column_of_nothing_but_numbers_stays_text(column: list[str], tmp_path: Path) -> None:
    answers = dict(zip("ab", column, strict=True))
    path = prediction_file(answers, tmp_path)
    with exact_answers(path, column):
        assert list(pd.read_excel(path)["prediction"]) == column


def test_the_lossless_copy_holds_every_text(tmp_path: Path) -> None:
    answers = {**ODD, **PLAIN}
    lines = (
        prediction_file(answers, tmp_path)
        .with_suffix(".jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    assert {line["index"]: line["prediction"] for line in map(json.loads, lines)} == answers


def test_the_xlsx_is_as_good_as_it_can_be(tmp_path: Path) -> None:
    answers = {**ODD, **PLAIN}
    (sheet,) = openpyxl.load_workbook(prediction_file(answers, tmp_path)).worksheets
    cells = {row[0]: row[3] for row in sheet.iter_rows(min_row=2, values_only=True)}
    assert {item: cells[item] for item in PLAIN} == PLAIN
    assert cells["formula"] == "=1+1" and cells["missing"] == "None" and cells["empty"] is None
    assert (
        cells["control"] == "A_x0001_B"
        and cells["surrogate"] == "_xD800_A"
        and cells["long"] == "x" * 32_767
    )


def test_tables_of_the_evaluation_are_written_whatever_they_hold(tmp_path: Path) -> None:
    path = prediction_file({"0": "A"}, tmp_path)
    table = pd.DataFrame(
        [["\x01", 1, "\ud800", None]], columns=["p", "hit", "p", "empty"], dtype=object
    )
    with exact_answers(path, ["\ud800"]):
        table.to_excel(tmp_path / "detail.xlsx", index=False, engine="openpyxl")
    cells = list(
        openpyxl.load_workbook(tmp_path / "detail.xlsx").active.iter_rows(values_only=True)
    )
    assert cells == [("p", "hit", "p", "empty"), ("_x0001_", 1, "_xD800_", None)]


def test_a_table_that_a_sheet_can_hold_is_left_alone() -> None:
    table = pd.DataFrame({"a": ["x", None], "b": [1, 2]})
    assert writable(table) is table


def test_what_stock_vlmevalkit_would_have_scored_otherwise_is_listed() -> None:
    assert lossy({**ODD, **PLAIN}) == list(ODD)
    assert lossy({"0": "3", "1": "7"}) == [], "read as numbers, they become the same texts again"
    assert lossy({"0": "3", "1": "7.0"}) == ["0"]
    assert lossy({"0": "3", "1": ""}) == ["0", "1"], "a missing value makes all of them floats"
    assert lossy({"0": "007", "1": "7"}) == ["0"]
    assert lossy({}) == [] and lossy({"0": "A"}) == []


# ---- our rows


def with_answers(folder: Path, change: dict[str, str] | None = None) -> Outputs:
    """EmbSpatial's genuine files, with the lossless file that a run of ours leaves beside them."""
    bench = by_key("embspatial")
    for path in genuine(VLMEVALKIT, bench).files:
        shutil.copyfile(path, folder / path.name)
    rows = read_vlmevalkit_rows(bench, find_vlmevalkit_outputs(bench, folder))
    answers = {**dict(zip(rows["item"], rows["answer"], strict=True)), **(change or {})}
    lines = [
        json.dumps({"index": item, "prediction": text}) + "\n" for item, text in answers.items()
    ]
    (folder / "M_EmbSpatialBench.jsonl").write_text("".join(lines), encoding="utf-8")
    return find_vlmevalkit_outputs(bench, folder)


@pytest.mark.parametrize("text", list(ODD.values()), ids=list(ODD))
def test_the_rows_have_the_exact_answer(text: str, tmp_path: Path) -> None:
    plain = read_vlmevalkit_rows(by_key("embspatial"), with_answers(tmp_path))
    first = plain["item"][0]
    rows = read_vlmevalkit_rows(by_key("embspatial"), with_answers(tmp_path, {first: text}))
    assert rows["answer"][0] == text and list(rows["answer"])[1:] == list(plain["answer"])[1:]
    assert rows.drop(columns="answer").equals(plain.drop(columns="answer"))


def test_the_lossless_file_belongs_to_what_the_score_comes_from(tmp_path: Path) -> None:
    assert [path.name for path in with_answers(tmp_path).files] == [
        "M_EmbSpatialBench_extract_matching_acc.csv",
        "M_EmbSpatialBench_extract_matching.xlsx",
        "M_EmbSpatialBench.jsonl",
    ]


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-20], lambda text: text.partition("\n")[2], lambda text: "[1]\n" + text],
)
def test_a_damaged_lossless_file_is_an_error_that_names_it(damage: object, tmp_path: Path) -> None:
    out = with_answers(tmp_path)
    path = tmp_path / "M_EmbSpatialBench.jsonl"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(EasiError, match=r"M_EmbSpatialBench\.jsonl"):
        read_vlmevalkit_rows(by_key("embspatial"), out)


def test_how_many_an_xlsx_would_have_changed_stands_beside_the_score(tmp_path: Path) -> None:
    bench, backend = by_key("embspatial"), make_backend("vlmevalkit", HubSettings())
    out = with_answers(tmp_path)
    rows = backend.rows(bench, out)
    plain = BenchmarkScore(
        bench.key, Reading(50.0), n=len(rows), total=len(rows), state=State.COMPLETE
    )
    cfg = RunConfig(model="m")
    assert (
        backend.annotate(cfg, bench, out, rows, plain, {"lossy": []})
        == backend.annotate(cfg, bench, out, rows, plain, {})
        == plain
    )
    (note,) = backend.annotate(cfg, bench, out, rows, plain, {"lossy": ["3", "7"]}).notes
    assert note.startswith(
        f"2 of {len(rows)} answers would have been changed by VLMEvalKit's own xlsx file"
    )


def test_answers_that_are_right_without_a_letter_are_told(tmp_path: Path) -> None:
    bench, backend = by_key("embspatial"), make_backend("vlmevalkit", HubSettings())
    out = with_answers(tmp_path)
    rows = backend.rows(bench, out)
    plain = BenchmarkScore(
        bench.key, Reading(50.0), n=len(rows), total=len(rows), state=State.COMPLETE
    )
    assert (
        backend.annotate(
            RunConfig(model="m"), bench, out, rows.assign(parsed=False, score=0.0), plain, {}
        )
        == plain
    )
    rows = rows.assign(parsed=[False, *[True] * (len(rows) - 1)], score=1.0)
    (note,) = backend.annotate(RunConfig(model="m"), bench, out, rows, plain, {}).notes
    assert note.startswith("1 answers without a letter count as correct")


def test_answers_about_a_change_of_view_that_say_nothing_are_told() -> None:
    rows = frame(
        {
            "benchmark": "spar_bench",
            "item": str(number),
            "question_type": kind,
            "answer": answer,
            "extracted": None,
            "target": "move_up:0.3",
            "score": score,
            "parsed": parsed,
            "cluster": "",
            "options": None,
            "coin_flip": False,
        }
        for number, (kind, answer, score, parsed) in enumerate(
            [
                ("view_change_infer", "2", 0.4, False),
                ("view_change_infer", "", 0.2, False),
                ("view_change_infer", "move_up:0.3", 1.0, True),
                ("position_matching", "x", 0.0, False),
            ]
        )
    )
    assert standing_still(rows).startswith(
        "2 answers about a change of view name no movement: VLMEvalKit scores them as standing "
        "still (0.30 on average)"
    )
    assert standing_still(rows[2:]) == ""


def test_other_file_formats_of_the_users_do_not_reach_a_run() -> None:
    bench, backend = by_key("embspatial"), make_backend("vlmevalkit", HubSettings())
    cfg = RunConfig(model="m")
    paths = RunPaths(Path("run"))
    for job in (
        backend.score_job(cfg, CHOICE, [bench], paths),
        backend.plain_job(cfg, CHOICE, bench, Path("out"), 1),
        backend.answer_job(cfg, CHOICE, [bench], paths, 1),
    ):
        assert job.env["PRED_FORMAT"] == job.env["EVAL_FORMAT"] == "" and "-u EVAL_FORMAT" in str(
            job
        )
