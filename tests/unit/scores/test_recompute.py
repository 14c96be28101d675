"""Every score from the per-question rows alone.

The formulas are compared by hand and with both backends' own files; a difference says where it is.
"""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.lmms_eval.samples import source_of
from easi_eval.backends.vlmevalkit.question_rows import read_vlmevalkit_rows
from easi_eval.backends.vlmevalkit.reader import read_vlmevalkit_scores
from easi_eval.benchmarks import (
    BACKENDS,
    BENCHMARKS,
    LMMS_EVAL,
    VLMEVALKIT,
    Benchmark,
    Source,
    by_key,
)
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.recompute import (
    all_right,
    disagreement,
    filled,
    letter_of,
    recompute,
    score_of,
    tolerance,
    wrong_scores,
)
from easi_eval.scores.row_table import frame, rows_csv, rows_from_csv
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import Reading, ScoreTable, State
from easi_eval.submission.payload import build_payload
from genuine import facts, files_of, genuine

TASKS = [(bench, backend, "") for bench in BENCHMARKS for backend in BACKENDS] + [
    (by_key("3dsrbench"), LMMS_EVAL, "3dsrbench_circular")
]
EACH = pytest.mark.parametrize(
    "bench, backend, task", TASKS, ids=lambda value: getattr(value, "key", value)
)


def files(bench: Benchmark, backend: str, task: str) -> tuple[Source, pd.DataFrame, Reading]:
    """The source, the rows and the backend's own reading of files that the backend really wrote."""
    if backend == VLMEVALKIT:
        out: Outputs = genuine(backend, bench)
        rows = read_vlmevalkit_rows(bench, out)
        return bench.source(backend), rows, read_vlmevalkit_scores(bench, out, rows)
    out = find_lmms_outputs(bench, files_of(bench.key, backend), task)
    rows = read_lmms_rows(bench, out)
    return source_of(bench, out), rows, read_lmms_scores(bench, out, rows)


def table(
    *questions: tuple[str, float], options: int = 4, variants: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Rows of (question type, score)."""
    return frame(
        {
            "benchmark": "x",
            "item": str(at),
            "question_type": kind,
            "answer": "",
            "extracted": None,
            "target": "",
            "score": score,
            "parsed": True,
            "cluster": "",
            "options": options,
            "coin_flip": False,
            "variant": variants[at] if variants else "",
        }
        for at, (kind, score) in enumerate(questions)
    )


# ---- agreement with the backends' own numbers


@EACH
def test_the_rows_give_every_number_of_the_backend(
    bench: Benchmark, backend: str, task: str
) -> None:
    source, rows, found = files(bench, backend, task)
    own = recompute(bench, source, rows)
    assert disagreement(source, own, found) == ""
    assert own.overall == pytest.approx(found.overall, abs=tolerance(source, source.scale))
    assert own.parts.keys() == found.parts.keys()
    assert {name for name, value in own.parts.items() if value is None} == {
        name for name, value in found.parts.items() if value is None
    }
    assert wrong_scores(rows) == []


@EACH
def test_the_archived_rows_give_the_same(bench: Benchmark, backend: str, task: str) -> None:
    source, rows, _ = files(bench, backend, task)
    assert recompute(bench, source, rows_from_csv(rows_csv(rows))) == recompute(bench, source, rows)


@EACH
def test_one_row_less_or_one_score_changed_is_noticed(
    bench: Benchmark, backend: str, task: str
) -> None:
    source, rows, found = files(bench, backend, task)
    assert found.overall is not None
    wrong = rows.copy()
    at = wrong["score"].idxmin()
    wrong.loc[at, "score"] = 1.0
    said = disagreement(source, recompute(bench, source, wrong), found)
    assert said.startswith(f"the score is {found.overall:.6f}, its rows give ")
    lacking = rows.drop(index=rows["score"].idxmax())
    assert disagreement(source, recompute(bench, source, lacking), found)


@EACH
def test_a_sub_score_off_by_one_digit_is_noticed(bench: Benchmark, backend: str, task: str) -> None:
    source, rows, found = files(bench, backend, task)
    own = recompute(bench, source, rows)
    for part in source.parts:
        value = found.parts[part.name]
        if value is None or not part.key:
            continue
        step = 10.0 ** -(source.decimals if source.decimals is not None else 5) * part.scale
        changed = dataclasses.replace(found, parts={**found.parts, part.name: value + 1.1 * step})
        assert disagreement(source, own, changed).startswith(f"{part.name} is "), part.name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bench", BENCHMARKS, ids=lambda bench: bench.key)
def test_every_sub_score_arrives(bench: Benchmark, backend: str) -> None:
    """Every sub-score is read.

    MMSI-Video has 13 kinds of questions and five totals. Planning and prediction are both a kind
    and a total, so only three totals are pooled. 3DSRBench on VLMEvalKit has overall, 12
    categories, 4 main ones, circular: overall and 12, flip, flip and circular.
    """
    parts = facts(bench.key)[backend]["sub_scores"]
    source, _rows, found = files(bench, backend, "")
    have = [part.name for part in source.parts if found.parts[part.name] is not None]
    assert len(have) == len(source.parts) == parts
    assert all(0 <= (found.parts[name] or 0) <= 100 for name in have if "caa" not in name)


def test_the_circular_task_has_flips_and_main_categories() -> None:
    _, _, found = files(by_key("3dsrbench"), LMMS_EVAL, "3dsrbench_circular")
    have = {name for name, value in found.parts.items() if value is not None}
    assert have >= {
        "circ_eval_overall",
        "flip_eval_overall",
        "flip_circ_eval_overall",
        "height",
        "location",
        "orientation",
        "multi_object",
    }
    assert len(have) == 12 + 4 + 3


# ---- the formulas, by hand


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"),
        ("(c)", "C"),
        ("A. left", "A"),
        ("D: up", "D"),
        ("b)", "B"),
        (" A ", "A"),
        ("left", None),
        ("", None),
        ("12", None),
        ("Above", None),
    ],
)
def test_letter_of(text: str, letter: str | None) -> None:
    assert letter_of(text) == letter


@pytest.mark.parametrize(
    "rule, extracted, target, score",
    [
        ("letter", "B", "B", 1.0),
        ("letter", "b", "(B) left", 1.0),
        ("letter", "A", "B", 0.0),
        ("letter", None, "B", 0.0),
        ("letter", "A", "left", None),
        ("letter", "F", "F", 1.0),
        ("letter", None, "G", None),
        ("letter", "G", "G", None),
        ("letter", "G", "B", 0.0),
        ("number", "4", "4", 1.0),
        ("number", "3.0", "4", 0.6),
        ("number", "2", "4", 0.1),
        ("number", "1.9", "4", 0.0),
        ("number", None, "4", 0.0),
        ("number", "0.1", "0", 0.9),
        ("number", "a few", "4", 0.0),
        ("number", "4", "many", None),
        ("number", "1", "nan", 0.0),
        ("", "B", "B", None),
    ],
)
def test_score_of_one_question(
    rule: str, extracted: str | None, target: str, score: float | None
) -> None:
    """MRA, https://arxiv.org/abs/2412.14171.

    Of the thresholds theta = 0.50, 0.55, ..., 0.95, the share with |p - t| / t <= 1 - theta.
    """
    found = score_of(rule, extracted, target)
    assert found is None if score is None else found == pytest.approx(score)


def test_a_score_that_does_not_follow_from_what_was_extracted() -> None:
    _, rows, _ = files(by_key("vsi_bench"), VLMEVALKIT, "")
    changed = rows.copy()
    for kind in ("letter", "number"):
        at = changed.index[(changed["rule"] == kind) & (changed["score"] < 1)][0]
        changed.loc[at, "score"] = 1.0
    assert len(wrong_scores(changed)) == 2 and all(
        found[1] == 1.0 > found[2] for found in wrong_scores(changed)
    )


def source_with(recompute_as: str, **parts: tuple[str, ...]) -> Source:
    source = by_key("vsi_bench").source(VLMEVALKIT)
    made = tuple(
        dataclasses.replace(source.parts[0], name=name, key="", types=types)
        for name, types in parts.items()
    )
    return dataclasses.replace(source, recompute=recompute_as, parts=made)


QUESTIONS: tuple[tuple[str, float], ...] = (("a", 1), ("a", 1), ("a", 1), ("b", 0), ("c", 0.5))


@pytest.mark.parametrize(
    "how, overall, both",
    [
        ("mean", 70, 75),
        ("type_mean", 50, 50),
        ("part_mean", 50, 50),
        ("caa", 100 * (3.5 - 5 / 4) / (5 * 3 / 4), 100 * (3 - 4 / 4) / (4 * 3 / 4)),
    ],
)
def test_the_four_ways_to_aggregate(how: str, overall: float, both: float) -> None:
    source = source_with(how, both=("a", "b"), third=("c",), none=("z",))
    found = recompute(by_key("vsi_bench"), source, table(*QUESTIONS))
    assert found.overall == pytest.approx(overall)
    assert found.parts["both"] == pytest.approx(both)
    assert (
        found.parts["none"] is None
        and found.why_missing["none"] == "no question of this kind was asked"
    )


def test_vsi_counts_the_three_directions_once() -> None:
    bench = by_key("vsi_bench")
    source = bench.source(VLMEVALKIT)
    kinds = [kind for part in source.parts for kind in part.types]
    rows = table(*((kind, float("direction" in kind)) for kind in kinds))
    assert recompute(bench, source, rows).overall == pytest.approx(100 / 8)
    one_gone = rows[rows["question_type"] != "object_rel_direction_easy"]
    left = recompute(bench, source, one_gone)
    assert (
        left.overall == pytest.approx(100 * 2 / 9)
        and left.parts["object_rel_direction_accuracy"] is None
    )


QIDS = (
    "AAAAAAAA",
    "AAAAAAAA-1",
    "AAAAAAAA-flip",
    "AAAAAAAA-flip-1",
    "BBBBBBBB",
    "BBBBBBBB-1",
    "BBBBBBBB-flip",
    "BBBBBBBB-flip-1",
)


@pytest.mark.parametrize(
    "wrong, circular, flip, both, circular_of_b",
    [
        ((), 100, 100, 100, 100),
        ((1,), 75, 75, 50, 100),
        ((1, 3), 50, 75, 50, 100),
        ((0, 1), 75, 50, 50, 100),
        ((4, 7), 50, 50, 50, 0),
        (range(8), 0, 0, 0, 0),
    ],
)
def test_sets_are_right_only_as_a_whole(
    wrong: tuple[int, ...], circular: float, flip: float, both: float, circular_of_b: float
) -> None:
    kinds = ["a"] * 4 + ["b"] * 4
    rows = table(*((kind, float(at not in wrong)) for at, kind in enumerate(kinds)), variants=QIDS)
    assert (
        all_right(rows, "circular") == circular
        and all_right(rows, "flip") == flip
        and all_right(rows, "flip_circular") == both
    )
    assert all_right(rows, "circular", ["b"]) == circular_of_b
    assert all_right(rows, "circular", ["z"]) is None


def test_an_empty_table_has_no_score() -> None:
    bench = by_key("3dsrbench")
    for how in ("mean", "type_mean", "part_mean", "caa"):
        found = recompute(
            bench, dataclasses.replace(bench.source(VLMEVALKIT), recompute=how), frame([])
        )
        assert (
            found.overall is None and set(found.parts.values()) == {None} and found.why_missing[""]
        )


# ---- agreement and filling


def test_what_a_backend_rounds_is_allowed_for() -> None:
    source = by_key("mmsi_video_bench").source(LMMS_EVAL)
    assert tolerance(source, 1) == pytest.approx(0.005, abs=2e-6)
    assert tolerance(by_key("vsi_bench").source(LMMS_EVAL), 100) == pytest.approx(5e-5, abs=2e-6)
    assert tolerance(by_key("blink").source(LMMS_EVAL), 100) == 1e-6


def test_only_numbers_that_both_have_are_compared() -> None:
    source = by_key("mindcube_tiny").source(LMMS_EVAL)
    own = Reading(
        50.0,
        {"among_accuracy": 50.0, "around_accuracy": None, "rotation_accuracy": 1.0},
        {"around_accuracy": "why"},
    )
    assert (
        disagreement(
            source,
            own,
            Reading(
                50.0, {"among_accuracy": None, "around_accuracy": None, "rotation_accuracy": 1.0}
            ),
        )
        == ""
    )
    assert (
        disagreement(source, own, Reading(50.0, {"around_accuracy": 3.0}))
        == "around_accuracy is 3.000000, its rows give none"
    )
    said = disagreement(
        source,
        own,
        Reading(51.0, {"among_accuracy": 51.0, "around_accuracy": 1.0, "rotation_accuracy": 2.0}),
    )
    assert said.startswith(
        "the score is 51.000000, its rows give 50.000000; among_accuracy is "
    ) and said.endswith("(and 1 more)")


def test_the_rows_fill_what_the_aggregate_lacks_and_change_nothing_else() -> None:
    found = Reading(50.0, {"a": None, "b": 2.0, "c": None}, {"a": "no number", "c": "not asked"})
    assert filled(found, Reading(49.0, {"a": 1.0, "b": 3.0, "c": None})) == Reading(
        50.0, {"a": 1.0, "b": 2.0, "c": None}, {"c": "not asked"}
    )


# ---- what the leaderboard has no name for


def test_extra_sub_scores_are_shown_and_not_submitted() -> None:
    bench = by_key("3dsrbench")
    _source, rows, found = files(bench, VLMEVALKIT, "")
    line = summarise(bench, found, rows, total=len(rows), state=State.COMPLETE)
    sent = build_payload(ScoreTable((line,), "org/model", VLMEVALKIT), VLMEVALKIT)["subScores"][
        "3dsrbench"
    ]
    assert set(found.parts) - set(sent) == {
        "height",
        "location",
        "orientation",
        "multi_object",
        "flip_eval_overall",
        "flip_circ_eval_overall",
    }
    assert sent["circ_eval_overall"] == round(found.parts["circ_eval_overall"] or 0, 4)
