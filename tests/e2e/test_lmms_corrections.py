"""The closed list of corrections against lmms-eval's own SPAR-Bench task.

The task is taken once as it is, and once with the import that it lacks.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from easi_eval.backends.lmms_eval import corrections
from easi_eval.backends.lmms_eval.caveats import annotate
from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.reader import read_lmms_scores
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.benchmarks import LMMS_EVAL, by_key
from easi_eval.scores.rows import summarise
from easi_eval.scores.score_table import BenchmarkScore, State

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SPAR = by_key("spar_bench")
# As the task's file calls them: process_results once per question, then each metric's aggregation
# over all.
PROGRAM = """
import copy, functools, importlib, json, sys, yaml
utils = importlib.import_module("lmms_eval.tasks.sparbench.utils")
docs = json.load(sys.stdin)

class Functions(yaml.SafeLoader):
    pass
Functions.add_constructor("!function", lambda loader, node: getattr(utils, loader.construct_scalar(node).rpartition(".")[2]))
with open(utils.Path(utils.__file__).parent / "_default_template_yaml") as file:
    metrics = yaml.load(file, Functions)["metric_list"]

def scored():
    results = [utils.sparbench_process_results(doc, [doc.pop("prediction")]) for doc in copy.deepcopy(docs)]
    return {"entries": [result["sparbench_score"] for result in results],
            "metrics": {metric["metric"]: float(metric["aggregation"]([result[metric["metric"]] for result in results])) for metric in metrics}}

assert not hasattr(utils, "partial"), "the package was repaired: the correction can go"
found = {"stock": scored()}
utils.partial = functools.partial
json.dump(found | {"repaired": scored()}, sys.stdout)
"""  # noqa: E501 -- lines of a program in a string

NUMERIC = (
    "depth_prediction_oc",
    "depth_prediction_oo",
    "distance_prediction_oc",
    "distance_prediction_oo",
    "depth_prediction_oc_mv",
    "depth_prediction_oo_mv",
    "distance_prediction_oc_mv",
    "distance_prediction_oo_mv",
)
CHOICE = (
    "obj_spatial_relation_oo",
    "obj_spatial_relation_oc_mv",
    "obj_spatial_relation_oo_mv",
    "spatial_imagination_oc",
    "spatial_imagination_oo",
    "spatial_imagination_oc_mv",
    "spatial_imagination_oo_mv",
    "position_matching",
    "camera_motion_infer",
    "distance_infer_center_oo",
    "distance_infer_center_oo_mv",
)
TARGETS = (
    "2.3",
    "4",
    "0",
    "0.0",
    "-1.5",
    "1e3",
    ".5",
    "12",
    "0.07",
    "nan",
    "inf",
    "",
    "far",
    " 3 ",
    "3 m",
)
# ``{}`` is a number near the target.
ANSWERS = (
    "{}",
    "about {}",
    "{} m",
    "{}m",
    "-{}",
    "{}%",
    "{} %",
    "The depth is {} meters.",
    "{} or 9",
    "9, then {}",
    "{}^2",
    "x^{}",
    "1,{}",
    "{},5",
    "{}.",
    ".{}",
    "{}e1",
    "1e{}",
    "${}$",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "{}/2",
    "between {} and {}",
    "٣",
    "²",
    "three",
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "no idea",
    "None",
    "0",
    "-0",
    "0.0",
    "00{}",
    "7" * 400,
    "7" * 5000,
    "0" * 5000 + "{}",
    "{}\n{}",
    "１２.５",
    "^12.5",
    "^1^2",
    "1.2.3",
    "v{}.{}",
    "A",
)


@dataclass(frozen=True)
class Scored:
    """lmms-eval's own scoring: what it left of each question, and every metric of the task."""

    entries: list[dict[str, Any]]
    metrics: dict[str, float]


def questions() -> list[dict[str, str]]:
    chance = random.Random(7)
    made = []
    for task in NUMERIC:
        for answer in ANSWERS:
            for target in TARGETS:
                near = (
                    f"{abs(numeric(target)) * chance.uniform(0.4, 1.6):.{chance.randrange(4)}f}"
                    if numeric(target)
                    else chance.choice(("0", "0.4", "3"))
                )
                made.append(
                    {"task": task, "answer": target, "prediction": answer.format(near, near, near)}
                )
    for task in CHOICE:
        made += [
            {
                "task": task,
                "answer": chance.choice("ABCD"),
                "prediction": chance.choice(("A", "b", "C.", "", "the answer")),
            }
            for _ in range(chance.randrange(5, 30))
        ]
    made += [
        {"task": "view_change_infer", "answer": "move_right:0.5,rotate_left:10", "prediction": text}
        for text in ("move_right:0.5,rotate_left:10", "move_right:0.4", "move_left:nan", "turn", "")
    ]
    chance.shuffle(made)
    return made


def numeric(target: str) -> float:
    try:
        value = float(target)
    except ValueError:
        return 0.0
    return value if abs(value) < 1e6 else 0.0  # not NaN, not infinite


@pytest.fixture(scope="module")
def scored() -> dict[str, Scored]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(questions()),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: Scored(**values) for name, values in json.loads(done.stdout).items()}


def test_the_import_is_what_the_package_lacks(scored: Mapping[str, Scored]) -> None:
    """Without it every numeric question scores 0, and nothing else differs."""
    for stock, repaired in zip(scored["stock"].entries, scored["repaired"].entries, strict=True):
        if stock["task"] in NUMERIC:
            assert stock["MRA:.5:.95:.05"] == 0
        else:
            assert stock == repaired
    assert scored["stock"].metrics["low"] == 0 < scored["repaired"].metrics["low"]


def test_every_numeric_question_scores_what_the_repaired_package_gives(
    scored: Mapping[str, Scored],
) -> None:
    seen = []
    for stock, repaired in zip(scored["stock"].entries, scored["repaired"].entries, strict=True):
        own = corrections.spar_numeric(stock)
        assert (own is None) == (stock["task"] not in NUMERIC)
        if own is not None:
            assert own == pytest.approx(repaired["MRA:.5:.95:.05"], abs=1e-12), stock
            seen.append(own)
    assert len(seen) == len(NUMERIC) * len(ANSWERS) * len(TARGETS)
    assert len({round(score, 3) for score in seen}) == 11, "every step of the measure is met"


def files(folder: Path, scored: Scored) -> Path:
    """What lmms-eval writes of it."""
    stamp = "20260102_030405"
    results = {
        "results": {"sparbench": {f"{name},none": value for name, value in scored.metrics.items()}},
        "n-samples": {
            "sparbench": {"original": len(scored.entries), "effective": len(scored.entries)}
        },
    }
    (folder / f"{stamp}_results.json").write_text(json.dumps(results), encoding="utf-8")
    lines = [
        {
            "doc_id": number,
            "target": entry["answer"],
            "filtered_resps": entry["prediction"],
            "sparbench_score": entry,
        }
        for number, entry in enumerate(scored.entries)
    ]
    (folder / f"{stamp}_samples_sparbench.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    return folder


def line(folder: Path) -> tuple[BenchmarkScore, pd.DataFrame]:
    out = find_lmms_outputs(SPAR, folder)
    rows = read_lmms_rows(SPAR, out)
    stock = summarise(
        SPAR, read_lmms_scores(SPAR, out, rows), rows, total=len(rows), state=State.COMPLETE
    )
    return annotate(SPAR, out, rows, stock, {}, wanted=True), rows


def test_every_number_of_the_corrected_line_is_the_repaired_packages(
    scored: Mapping[str, Scored], tmp_path: Path
) -> None:
    corrected, _ = line(files(tmp_path, scored["stock"]))
    assert corrected.method == corrections.CORRECTED
    for name, values in (
        ("corrected", scored["repaired"].metrics),
        ("stock", scored["stock"].metrics),
    ):
        reading = corrected.by_method[name]
        assert reading.overall == pytest.approx(values["sparbench_score"], abs=1e-9)
        source = SPAR.source(LMMS_EVAL)
        assert {part.name: reading.parts[part.name] for part in source.parts} == pytest.approx(
            {part.name: 100 * values[part.key] for part in source.parts}
        )
        assert len(source.parts) == 23


def test_the_repaired_packages_own_files_are_not_corrected(
    scored: Mapping[str, Scored], tmp_path: Path
) -> None:
    as_it_is, _ = line(files(tmp_path, scored["repaired"]))
    assert as_it_is.by_method == {} and as_it_is.reading.overall == pytest.approx(
        scored["repaired"].metrics["sparbench_score"]
    )
