"""The score table as files."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.scores.interval import Interval
from easi_eval.scores.report import summary
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
        "error": "",
        "low": "",
        "high": "",
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
        "clusters": "",
        "chance": "",
        "model": "org/m|x",
        "backend": "vlmevalkit",
        "identity": "id",
        "versions": "",
        "date": "",
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
    text = markdown_text(made)
    assert "| all, by stock | 20.50 |" in text and "- SPAR-Bench: spar-partial: why" in text


def test_site_is_one_benchmark_with_two_parts() -> None:
    lines = [
        one
        for one in parsed(csv_text(table("site_image", "site_video")))
        if one["benchmark"] == "site"
    ]
    heads = [(one["part"], one["n"]) for one in lines if one["n"]]
    assert heads == [("", "20"), ("site_image", "10"), ("site_video", "10")]
    assert len(lines) == 3 * (1 + 6)


def test_markdown_is_grouped_by_benchmark_and_has_readable_names() -> None:
    text = markdown_text(table("blink", "site_image", "site_video"))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for each in tables:
        assert len({one.replace("\\|", "").count("|") for one in each.splitlines()}) == 1
    assert len(tables) == 1 + 1 + 3, "headlines, BLINK, SITE and its halves"
    assert "| BLINK | 33.33 |  | 10 of 12 |  | 1 | 2 |  | 0 | 2 min |  |  | complete |" in text
    assert text.startswith("# EASI scores: org/m\\|x\n") and "rehearsal" not in text
    assert "| EASI-8 average |  |  |" in text and "- EASI-8 average: needs VSI-Bench, " in text
    assert "\n## BLINK\n" in text and "| Multi-view reasoning | 16.67 |" in text
    assert "- Art style: no question \\| of this kind, really" in text


def test_what_a_task_does_not_define_is_one_line() -> None:
    parts: dict[str, float | None] = dict.fromkeys((f"circ_eval_{one}" for one in "abcd"), None)
    why = dict.fromkeys(parts, "the data has no variants")
    row = replace(line("3dsrbench"), reading=Reading(50.0, {**parts, "height": 50.0}, why))
    text = markdown_text(ScoreTable((row,), "org/m", VLMEVALKIT))
    assert "\n- 4 categories: the data has no variants\n" in text and text.count("variants") == 1


def test_the_head_says_what_the_scores_were_made_with_and_whether_they_mean_anything() -> None:
    made = ScoreTable(
        (line("blink"),),
        "org/m",
        VLMEVALKIT,
        "0123456789",
        {"ms-vlmeval": "0.0.20", "torch": "2.9.1"},
        "2026-11-30T08:21:24Z",
        rehearsal=True,
    )
    head = markdown_text(made).split("## ")[0]
    assert "- rehearsal: made-up questions; the numbers say nothing about a model" in head
    assert (
        "Backend: vlmevalkit; started 2026-11-30T08:21:24Z; identity 01234567; "
        "ms-vlmeval 0.0.20, torch 2.9.1." in head
    )
    for one in parsed(csv_text(made)):
        assert one["versions"] == "ms-vlmeval 0.0.20; torch 2.9.1"
        assert (one["model"], one["date"]) == ("org/m", "2026-11-30T08:21:24Z")


def test_intervals_stand_beside_their_scores_in_both_files() -> None:
    sure = Interval(100 / 3, 4.0, 26.0, 41.25, 10, 7, "wilson", 30.0)
    part = next(name for name, value in line("blink").reading.parts.items() if value is not None)
    rows = [
        replace(line(key), intervals={"": sure, part: replace(sure, chance=None, n=4)})
        for key in ("blink", "embspatial")
    ]
    made = ScoreTable(tuple(rows), "org/m", VLMEVALKIT)
    found = {(one["benchmark"], one["part"]): one for one in parsed(csv_text(made))}
    cells = ("error", "low", "high", "n", "clusters", "chance")
    assert [found["blink", ""][name] for name in cells] == [
        "4.0",
        "26.0",
        "41.25",
        "10",
        "7",
        "30.0",
    ]
    assert [found["blink", part][name] for name in cells] == ["4.0", "26.0", "41.25", "4", "7", ""]
    text = markdown_text(made)
    assert "| BLINK | 33.33 | 26.0 to 41.2 | 10 of 12 | 30.0, at chance | 1 |" in text
    assert "| Counting | 16.67 | 26.0 to 41.2 | 4 |  |" in text
    said = (
        "warning: cannot be told apart from guessing: BLINK (chance 30.0), EmbSpatial (chance 30.0)"
    )
    assert text.count(said) == 1 and said in " ".join("\n".join(summary(made)).split())
