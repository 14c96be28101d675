"""lmms-eval through our workers gives what lmms-eval gives by itself.

Our runs are compared with one stock launch of all tasks.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Runs, Whole
from easi_eval.backends.lmms_eval.question_rows import read_lmms_rows
from easi_eval.backends.lmms_eval.result_files import find_lmms_outputs
from easi_eval.benchmarks import GROUPS, LMMS_EVAL, by_key
from genuine import facts
from lmms_stock import launched
from own_files import KEYS, headline, lmms_headline
from program import Launch, Results, run_folder

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

EACH = pytest.mark.parametrize("key", KEYS)


@pytest.fixture(scope="module")
def alone(runs: Runs) -> Whole:
    return runs.alone(LMMS_EVAL)


@pytest.fixture(scope="module")
def stock(alone: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``python -m lmms_eval`` leaves with the arguments, threads and data of our worker."""
    folder = tmp_path_factory.mktemp("stock")
    (served,) = (alone.out / "rehearsal").glob("hub-*")
    done = launched(alone.user, alone.folder, served, folder)
    assert list(folder.glob("*/*_results.json")), done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def texts(folder: Path, key: str) -> dict[str, str]:
    rows = read_lmms_rows(by_key(key), find_lmms_outputs(by_key(key), folder))
    return {
        str(item): str(answer).strip()
        for item, answer in zip(rows["item"], rows["answer"], strict=True)
    }


def metrics(folder: Path, key: str) -> dict[str, Any]:
    """Every number that lmms-eval wrote of the benchmark and its subtasks."""
    out = find_lmms_outputs(by_key(key), folder)
    results = json.loads(out.scores[0].read_text(encoding="utf-8"))["results"]
    source = by_key(key).source(LMMS_EVAL)
    return {
        f"{task}|{name}": value
        for task in {source.task, *source.tasks}
        for name, value in results[task].items()
        if name.endswith(",none") and isinstance(value, (int, float))
    }


@EACH
@pytest.mark.parametrize("workers", [1, 2])
def test_the_answers_are_those_of_a_stock_launch(
    runs: Runs, stock: Path, key: str, workers: int
) -> None:
    ours = (runs.alone if workers == 1 else runs.pair)(LMMS_EVAL).folder
    assert {item: text.strip() for item, text in ours.texts(key).items()} == texts(stock, key)


def test_three_workers_give_the_same_answers_and_scores(
    runs: Runs, alone: Whole, stock: Path
) -> None:
    out = runs.fresh("three-lmms-eval")
    launch = runs.user.run(
        "--smoke",
        "--backend",
        LMMS_EVAL,
        "--include-extra",
        "--nproc",
        3,
        "--output-dir",
        out,
        "--no-rich",
    )
    assert launch.code == 0, launch.said
    ours, results = run_folder(out, LMMS_EVAL), Results(out)
    assert (
        len({path.name.partition(".")[0] for path in (ours.root / "journal").glob("*.jsonl")}) == 3
    )
    for key in KEYS:
        assert {item: text.strip() for item, text in ours.texts(key).items()} == texts(
            stock, key
        ), key
        assert results.score(key) == alone.results.score(key), key


@EACH
def test_every_number_is_that_of_a_stock_launch(alone: Whole, stock: Path, key: str) -> None:
    """Every number equals that of a stock launch.

    SITE draws a letter for an answer without one, and a stock launch draws them in the order of its
    threads.
    """
    if alone.results.line(key)["coin_flips"] != "0":
        assert key.startswith("site_")
        return
    ours = metrics(alone.folder.output(key), key)
    assert ours and ours == pytest.approx(metrics(stock, key), nan_ok=True)


@EACH
def test_our_headline_is_the_stock_one_but_for_the_correction(
    alone: Whole, stock: Path, key: str
) -> None:
    task, metric, scale = lmms_headline(key)
    results = json.loads(next(stock.glob("*/*_results.json")).read_text(encoding="utf-8"))[
        "results"
    ]
    own = results[task][f"{metric},none"] * scale
    if key == "spar_bench":
        assert float(alone.results.table[key, "[stock]"]["score"]) == pytest.approx(own, abs=1e-9)
        assert alone.results.line(key)["method"] == "corrected" and alone.results.score(key) > own
    elif alone.results.line(key)["coin_flips"] == "0":
        assert alone.results.score(key) == pytest.approx(own, abs=1e-9)


def test_every_sub_score_arrives(alone: Whole) -> None:
    counts = {key: facts(key)[LMMS_EVAL]["sub_scores"] for key in KEYS if not by_key(key).group}
    counts |= {group.key: len(group.parts) for group in GROUPS}
    for key, count in counts.items():
        scored = [
            line["score"]
            for (bench, part), line in alone.results.table.items()
            if bench == key and part and "[" not in part and "site_" not in part and line["score"]
        ]
        assert len(scored) == count, key
        assert all(-100 <= float(score) <= 100 for score in scored) and any(
            float(score) > 1 for score in scored
        ), key


def test_the_stock_files_of_a_corrected_benchmark_stay_as_they_are(alone: Whole) -> None:
    (path,) = alone.folder.output("spar_bench").glob("*/*_results.json")
    assert json.loads(path.read_text(encoding="utf-8"))["results"]["sparbench"]["low,none"] == 0
    assert headline(
        LMMS_EVAL, "spar_bench", alone.folder.output("spar_bench")
    ) < alone.results.score("spar_bench")


def imported(alone: Whole, folder: Path, out: Path) -> Launch:
    return alone.user.run(
        "--import-results",
        folder,
        "--as-model",
        "org/Tiny",
        "--output-dir",
        out,
        "--dry-run",
        "--no-rich",
        HF_HOME=str(alone.out / "rehearsal" / "huggingface"),
        CUDA_VISIBLE_DEVICES="",
    )


def test_a_stock_folder_is_of_the_questions_in_the_hub_cache(
    alone: Whole, stock: Path, tmp_path: Path
) -> None:
    done = imported(alone, stock, tmp_path / "out")
    assert done.out.count("\naccept   ") == len(KEYS), done.said


def test_a_stock_folder_with_other_right_answers_is_told(
    alone: Whole, stock: Path, tmp_path: Path
) -> None:
    """Those of the next question that has another, in one question of each task."""
    folder = Path(shutil.copytree(stock, tmp_path / "stock"))
    for path in folder.glob("*/*_samples_*.jsonl"):
        first, *others = [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        if other := next(
            (sample["target"] for sample in others if sample["target"] != first["target"]), None
        ):
            samples = [{**first, "target": other}, *others]
            path.write_text(
                "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples),
                encoding="utf-8",
            )
    done = imported(alone, folder, tmp_path / "out")
    assert len(re.findall(r"\nreject   .*right answers are not those", done.out)) == len(KEYS), (
        done.said
    )
