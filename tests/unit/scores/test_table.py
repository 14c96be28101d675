"""The score table as files."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.scores.score_table import BenchmarkScore, Pool, Reading, ScoreTable, State
from easi_eval.scores.table import AVERAGE, COLUMNS, csv_text, markdown_text


def line(key: str, score: float = 100 / 3) -> BenchmarkScore:
    parts: dict[str, float | None] = {
        part.name: score / 2 for part in by_key(key).source(VLMEVALKIT).parts
    }
    gone = next(iter(parts))
    parts[gone] = None
    pools = (
        {"": Pool(score, 100.0), **{name: Pool(score / 2, 100.0) for name in parts if name != gone}}
        if by_key(key).group
        else {}
    )
    return BenchmarkScore(
        key,
        Reading(score, parts, {gone: "no question | of this kind,\nreally"}),
        n=10,
        total=12,
        state=State.COMPLETE,
        reason="",
        unparsed=1,
        failed=2,
        truncated=None,
        coin_flips=0,
        pools=pools,
        seconds=125.04,
    )


def table(*keys: str) -> ScoreTable:
    return ScoreTable(tuple(line(key) for key in keys), "org/m|x", VLMEVALKIT, "id")


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_columns_and_digits() -> None:
    lines = parsed(csv_text(table("blink")))
    assert tuple(lines[0])[: len(COLUMNS)] == COLUMNS
    assert lines[0] | {"score": ""} == {
        "benchmark": "blink",
        "part": "",
        "score": "",
        "n": "10",
        "unparsed": "1",
        "failed": "2",
        "truncated": "",
        "coin_flips": "0",
        "time": "125.0",
        "method": "",
        "comparable": "",
        "state": "complete",
        "reason": "",
        "total": "12",
        "points": "",
        "weight": "",
    }
    assert float(lines[0]["score"]) == 100 / 3
    assert [one["part"] for one in lines[1:-1]] == [
        part.name for part in by_key("blink").source(VLMEVALKIT).parts
    ]
    assert lines[1]["score"] == "" and lines[1]["reason"]
    assert (
        lines[-1]["benchmark"] == AVERAGE
        and lines[-1]["score"] == ""
        and "vsi_bench" in lines[-1]["reason"]
    )


def test_a_headline_by_another_method_has_a_line_of_its_own() -> None:
    row = replace(
        line("spar_bench", 30.0),
        method="corrected",
        by_method={"corrected": Reading(30.0), "stock": Reading(20.5)},
        comparable="note",
        notes=("spar-partial: why",),
    )
    made = ScoreTable((row,), "org/m", VLMEVALKIT, "id")
    lines = parsed(csv_text(made))
    assert [(one["part"], one["score"], one["method"]) for one in lines[:2]] == [
        ("", "30.0", "corrected"),
        ("[stock]", "20.5", "stock"),
    ]
    assert lines[0]["comparable"] == "note"
    assert "|  | [stock] | 20.50 |" in markdown_text(
        made
    ) and "- SPAR-Bench: spar-partial: why" in markdown_text(made)


def test_site_is_one_benchmark_with_two_parts() -> None:
    lines = [
        one
        for one in parsed(csv_text(table("site_image", "site_video")))
        if one["benchmark"] == "site"
    ]
    heads = [(one["part"], one["n"]) for one in lines if one["n"]]
    assert heads == [("", "20"), ("site_image", "10"), ("site_video", "10")]
    assert len(lines) == 3 * (1 + 6)


def test_markdown_has_one_cell_per_column() -> None:
    text = markdown_text(table("blink", "site_image", "site_video"))
    lines = [one for one in text.splitlines() if one.startswith("|")]
    assert all(one.replace("\\|", "").count("|") == len(COLUMNS) + 1 for one in lines)
    assert "| BLINK |  | 33.33 | 10 | 1 | 2 |  | 0 | 2 min |  |  | complete |  |" in lines
    assert text.startswith("# EASI scores: org/m\\|x\n")
    assert "| EASI-8 average |  |  |" in text
