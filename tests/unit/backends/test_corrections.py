"""The closed list of corrections.

Also what is counted beside a number, and whether it may stand beside older ones.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from easi_eval.backends.lmms_eval import caveats, corrections
from easi_eval.backends.lmms_eval.caveats import annotate
from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.backends.lmms_eval.samples import sample_entries
from easi_eval.benchmarks import BACKENDS, BENCHMARKS, LMMS_EVAL, VLMEVALKIT, TsvData, by_key
from easi_eval.core.errors import EasiError
from easi_eval.scores import comparability
from easi_eval.scores.intervals import with_intervals
from easi_eval.scores.outputs import Outputs
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import BenchmarkScore, Reading, State
from genuine import genuine

SPAR = by_key("spar_bench")


# ---- the mean relative accuracy ------------------------------------------------------------------


def by_numpy(predicted: float, target: float) -> float:
    error = abs(predicted - target) if target == 0 else abs((predicted - target) / target)
    return float((error <= 1 - np.linspace(0.5, 0.95, 10)).mean())


def test_the_mean_relative_accuracy_is_the_published_one_also_on_its_steps() -> None:
    chance = np.random.default_rng(1)
    pairs = [
        (3.0, 3.0),
        (0.0, 0.0),
        (2.0, 0.0),
        (1.0, -1.0),
        *((1 + step / 20, 1.0) for step in range(-21, 22)),
        *chance.uniform(0.1, 9, (500, 2)),
    ]
    for predicted, target in pairs:
        assert corrections.mean_relative_accuracy(predicted, target) == by_numpy(
            predicted, target
        ), (predicted, target)
    assert (
        corrections.mean_relative_accuracy(3.0, 3.0) == 1
        and corrections.mean_relative_accuracy(9.0, 3.0) == 0
    )


@pytest.mark.parametrize(
    ("task", "answer", "target", "score"),
    [
        ("depth_prediction_oc", "3.0", "3.0", 1.0),
        ("depth_prediction_oc", "3.0 or 9", "3.0", 1.0),  # the first number ...
        # ... and the last one where there are several views
        ("depth_prediction_oc_mv", "9, then 3.0", "3.0", 1.0),
        ("depth_prediction_oc_mv", "9^3", "9", 1.0),  # an exponent is no number
        ("distance_prediction_oo", "about 3.5 m", "3", 0.7),
        ("distance_prediction_oo", "no idea", "3", 0.0),
        ("distance_prediction_oo_mv", "no idea", "3", 0.0),
        ("distance_prediction_oo", "", "3", 0.0),
        ("distance_prediction_oo", "3", "far", 0.0),
        ("distance_prediction_oo", "3", "nan", 0.0),
    ],
)
def test_a_numeric_spar_answer_scores_what_its_expression_means(
    task: str, answer: str, target: str, score: float
) -> None:
    assert corrections.spar_numeric(
        {"task": task, "prediction": answer, "answer": target}
    ) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    "task", ["obj_spatial_relation_oo", "view_change_infer", "position_matching", None]
)
def test_other_spar_questions_are_not_touched(task: str | None) -> None:
    assert corrections.spar_numeric({"task": task, "prediction": "3", "answer": "3"}) is None


# ---- both values ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spar:
    """A genuine result of SPAR-Bench in which some numeric questions got the right number."""

    out: Outputs
    rows: pd.DataFrame
    stock: BenchmarkScore
    entries: dict[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def spar(tmp_path_factory: pytest.TempPathFactory) -> Spar:
    folder = tmp_path_factory.mktemp("spar")
    (samples,) = genuine(LMMS_EVAL, SPAR).rows
    shutil.copy(
        samples.with_name(samples.name.replace("samples_sparbench.jsonl", "results.json")), folder
    )
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        entry = line["sparbench_score"]
        if "MRA:.5:.95:.05" in entry and number % 2:
            entry["prediction"] = line["filtered_resps"] = entry["answer"]
    (folder / samples.name).write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    out = find_lmms_outputs(SPAR, folder)
    rows = read_lmms_rows(SPAR, out)
    stock = summarise(
        SPAR, read_lmms_scores(SPAR, out, rows), rows, total=len(rows), state=State.COMPLETE
    )
    return Spar(out, rows, stock, sample_entries(SPAR, out, rows))


def line_of(spar: Spar, wanted: bool) -> BenchmarkScore:
    return annotate(SPAR, spar.out, spar.rows, spar.stock, {}, wanted=wanted)


def test_spar_shows_both_values_and_the_corrected_one_counts(spar: Spar) -> None:
    stock = spar.stock
    line = line_of(spar, wanted=True)
    assert line.method == "corrected" and set(line.by_method) == {"corrected", "stock"}
    assert line.reading == line.by_method["corrected"] and line.by_method["stock"] == stock.reading
    # the genuine file was made by a package that scores all of these 0
    assert stock.reading.parts["low"] == 0 < line.reading.parts["low"]
    assert stock.reading.overall < line.reading.overall
    # the mean over 20 tasks moves by what the 8 numeric ones gain
    low = line.reading.parts["low"]
    assert line.reading.overall == pytest.approx(stock.reading.overall + 8 / 20 * low)
    for name, value in stock.reading.parts.items():
        if not name.startswith(("depth", "distance_prediction", "low")):
            assert line.reading.parts[name] == pytest.approx(value), name
    (note,) = [note for note in line.notes if note.startswith("spar-partial")]
    assert (
        f"{line.reading.overall:.4f}" in note
        and f"{stock.reading.overall:.4f}" in note
        and "import" in note
    )


def test_the_interval_is_that_of_the_score_that_counts(spar: Spar) -> None:
    stock = with_intervals(spar.stock, SPAR, SPAR.source(LMMS_EVAL), spar.rows)
    sure = replace(spar, stock=stock)
    for wanted in (True, False):
        line = line_of(sure, wanted)
        assert line.intervals[""].value == line.reading.overall
        assert line.intervals["low"].value == line.reading.parts["low"]
    assert line_of(sure, wanted=True).draws != stock.draws, "other scores of questions"
    assert line_of(sure, wanted=False).intervals == stock.intervals


def test_without_corrections_the_stock_value_counts_and_both_are_shown(spar: Spar) -> None:
    line = line_of(spar, wanted=False)
    assert line.method == "stock" and line.reading == spar.stock.reading == line.by_method["stock"]
    assert "--no-corrections" in " ".join(line.notes)


def test_a_repaired_backend_is_not_corrected(spar: Spar) -> None:
    (correction,) = corrections.applying(LMMS_EVAL, "spar_bench")
    repaired = corrections.corrected_rows(correction, spar.entries, spar.rows)
    assert repaired is not None and repaired["score"].sum() == spar.rows["score"].sum() + 4
    assert corrections.corrected_rows(correction, spar.entries, repaired) is None


def test_a_question_that_failed_keeps_its_zero(spar: Spar) -> None:
    (correction,) = corrections.applying(LMMS_EVAL, "spar_bench")
    gone = spar.rows["item"][1]
    entries = {item: entry for item, entry in spar.entries.items() if item != gone}
    changed = corrections.corrected_rows(correction, entries, spar.rows)
    assert changed is not None and changed["score"][1] == 0 and changed["score"][3] == 1


def test_the_list_is_closed() -> None:
    assert [one.id for one in corrections.CORRECTIONS] == ["spar-partial"]
    for backend in BACKENDS:
        for bench in BENCHMARKS:
            settings = corrections.corrections_setting(bench, backend, True)
            assert settings == (
                {"corrections": ["spar-partial"]}
                if (backend, bench.key) == (LMMS_EVAL, "spar_bench")
                else {}
            )
    assert corrections.corrections_setting(SPAR, LMMS_EVAL, False) == {"corrections": []}


# ---- what is counted -----------------------------------------------------------------------------


def test_empty_spar_answers_are_counted() -> None:
    count = caveats.counted(LMMS_EVAL, "spar_bench")
    empty = {"prediction": "", "accuracy": 1.0}
    assert "2 empty answers" in count(
        [
            empty,
            empty,
            {"prediction": "A", "accuracy": 1.0},
            {"prediction": "", "MRA:.5:.95:.05": 0.0},
        ]
    )
    assert count([{"prediction": "A", "accuracy": 1.0}]) == ""


def test_omnispatial_answers_that_count_as_a_are_counted() -> None:
    count = caveats.counted(LMMS_EVAL, "omnispatial_(manual_cot)")
    read = [
        {"pred": "so\nAnswer: B", "is_correct": True},
        {"pred": "answer :c", "is_correct": False},
    ]
    assert count(read) == ""
    assert "2 answers" in count(
        [*read, {"pred": "A", "is_correct": True}, {"pred": "Answer: E", "is_correct": False}]
    )
    assert "1 of them" in count([*read, {"pred": "A", "is_correct": True}])


def test_other_benchmarks_have_no_oddity_to_count() -> None:
    assert (
        caveats.counted(LMMS_EVAL, "blink") is None
        and caveats.counted(VLMEVALKIT, "spar_bench") is None
    )


@pytest.mark.parametrize(
    ("answer", "inside"),
    [
        ("<answer>A</answer>", "A"),
        ("I think <answer>\n B </answer> is right", "B"),
        (r"so \boxed{C}", "C"),
        (r"\boxed{\frac{1}{2}} m", r"\frac{1}{2}"),
        (r"\boxed{C", "C"),
        (r"<answer>A</answer> \boxed{B}", "A"),
    ],
)
def test_wrapped_answers_are_unwrapped(answer: str, inside: str) -> None:
    assert caveats.wrapped(answer) and caveats.unwrapped(answer) == inside


@pytest.mark.parametrize("answer", ["A", "", "<answer>A", "boxed{A}", "the answer is A"])
def test_others_stay_as_they_are(answer: str) -> None:
    assert not caveats.wrapped(answer) and caveats.unwrapped(answer) == answer


def test_the_diagnosis_is_told_as_one() -> None:
    assert caveats.wrapped_note(0, 50.0) == ""
    assert "unwrapped" not in caveats.wrapped_note(3, None) and "3 answers" in caveats.wrapped_note(
        3, None
    )
    assert "62.5000 (a diagnosis, not the score)" in caveats.wrapped_note(3, 62.5)


# ---- beside older rows ---------------------------------------------------------------------------


def compared(
    key: str,
    backend: str = LMMS_EVAL,
    model: str = "llava_onevision",
    method: str = "",
    settings: Mapping[str, object] | None = None,
) -> BenchmarkScore:
    source = by_key(key).source(backend)
    contents = source.data.contents if isinstance(source.data, TsvData) else ()
    known = next(({"md5": content.md5} for content in contents if content.expected), {})
    line = BenchmarkScore(
        key, Reading(1.0), n=1, total=source.questions, state=State.COMPLETE, method=method
    )
    return comparability.with_comparability(
        line, backend, model, {"data": known, **(settings or {})}
    )


@pytest.mark.parametrize(
    ("key", "backend", "model", "method", "verdict"),
    [
        ("viewspatial", LMMS_EVAL, "qwen2_5_vl", "", "yes"),
        ("viewspatial", LMMS_EVAL, "qwen3_vl", "", "note"),
        ("vsi_bench", LMMS_EVAL, "internvl3", "", "note"),
        ("mindcube_tiny", LMMS_EVAL, "qwen2_5_vl", "", "no"),
        ("mindcube_tiny", LMMS_EVAL, "qwen3_vl", "", "no"),
        ("mindcube_tiny", LMMS_EVAL, "internvl3", "", "yes"),
        ("spar_bench", LMMS_EVAL, "internvl3", "corrected", "note"),
        ("spar_bench", LMMS_EVAL, "internvl3", "stock", "no"),
        ("vsi_bench", VLMEVALKIT, "Qwen2VLChat", "", "note"),
        ("vsi_bench", VLMEVALKIT, "InternVLChat", "", "yes"),
        ("mindcube_tiny", VLMEVALKIT, "Qwen2VLChat", "", "yes"),
    ],
)
def test_verdicts(key: str, backend: str, model: str, method: str, verdict: str) -> None:
    line = compared(key, backend, model, method)
    assert line.comparable == verdict
    assert bool(line.notes) == (verdict != "yes")


def test_all_reasons_that_fit_are_told() -> None:
    assert len(compared("vsi_bench", model="qwen3_vl").notes) == 2


def test_a_line_without_a_score_is_not_compared() -> None:
    empty = BenchmarkScore("blink", Reading(None), n=0, total=None, state=State.FAILED)
    assert comparability.with_comparability(empty, LMMS_EVAL, "qwen3_vl", {}) == empty


def test_frames_as_images_are_what_older_rows_of_qwen_models_had() -> None:
    assert (
        compared(
            "vsi_bench", VLMEVALKIT, "Qwen2VLChat", settings={"--vsi-input": "frames"}
        ).comparable
        == "yes"
    )
    assert (
        compared(
            "vsi_bench", VLMEVALKIT, "Qwen2VLChat", settings={"task": "VSI-Bench_32frame"}
        ).comparable
        == "note"
    )


@pytest.mark.parametrize(
    ("unread", "method", "verdict"),
    [
        (25, "exact_matching", "yes"),
        (26, "exact_matching", "note"),
        (26, "", "note"),
        (26, "gpt-4o-1120", "yes"),
        (None, "exact_matching", "yes"),
    ],
)
def test_rows_that_easi_would_have_judged_are_told(
    unread: int | None, method: str, verdict: str
) -> None:
    line = BenchmarkScore(
        "mmsi_bench",
        Reading(1.0),
        n=1000,
        total=1000,
        state=State.COMPLETE,
        unparsed=unread,
        method=method,
    )
    assert (
        comparability.with_comparability(line, VLMEVALKIT, "InternVLChat", {}).comparable == verdict
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema = 1", "schema = 2", "schema is 2"),
        ('verdict = "no"', 'verdict = "never"', "verdict 'never'"),
        ('except = ["bagel"', 'excepting = ["bagel"', "unknown key excepting"),
        ('backend = "vlmevalkit"', 'backend = "vlmeval"', "backend 'vlmeval'"),
    ],
)
def test_a_misspelt_rule_is_refused(old: str, new: str, problem: str) -> None:
    text = comparability.TOML.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(EasiError) as refused:
        comparability.load(text.replace(old, new, 1))
    assert problem in refused.value.message


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("no-older-row", "no rule 'no-older-row' in comparability.toml"),
        ({"id": "own", "verdict": "no"}, "own: missing key why"),
        ({"id": "own", "verdict": "no", "why": "so", "unread ": 1}, "own: unknown key unread "),
    ],
)
def test_a_misspelt_rule_of_an_entry_is_refused(given: object, problem: str) -> None:
    bench = by_key("blink")
    source = dataclasses.replace(bench.source(LMMS_EVAL), comparability=(given,))
    changed = dataclasses.replace(bench, sources={LMMS_EVAL: source})
    with pytest.raises(EasiError) as refused:
        comparability.rules_of(changed, LMMS_EVAL, comparability.SHARED)
    assert refused.value.message == f"benchmarks/blink.toml: {problem}"
