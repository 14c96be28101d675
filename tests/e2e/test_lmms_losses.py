"""lmms-eval: faults around a run lose no answer, and what is said beside a number."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from conftest import Runs, Whole
from easi_eval.backends import make_backend
from easi_eval.backends.completeness import gather
from easi_eval.benchmarks import LMMS_EVAL, by_key
from easi_eval.config import RunConfig
from easi_eval.data.local_hub.server import LocalHub
from easi_eval.data.needs import HubSettings
from easi_eval.engine.work import ItemList
from easi_eval.scores.score_table import BenchmarkScore
from own_files import KEYS
from program import Launch, Results, User, a_closed_port, answered_otherwise, run_folder, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

PIXELS = "min_pixels=784,max_pixels=3136"  # as the rehearsal runs the same weights


def options(model: Path, out: Path, *more: object) -> list[object]:
    return [
        "--backend",
        LMMS_EVAL,
        "--model",
        "qwen2_5_vl",
        "--model-args",
        f"pretrained={model},device_map=cpu,{PIXELS}",
        "--device",
        "cpu",
        "--output-dir",
        out,
        "--no-rich",
        *more,
    ]


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Whole:
    return runs.alone(LMMS_EVAL)


# ---- data that cannot be read, and a hub that dies -----------------------------------------------

GOOD = ("viewspatial", "embspatial")
BROKEN = {"mindcube_tiny": "oscarqjh/MindCube_lmmseval", "spar_bench": "jasonzhango/SPAR-Bench"}
# lmms-eval's aggregation raises where a kind of direction is missing, after all was answered.
LAST = "vsi_debiased"


def broken_data(served: Path, folder: Path) -> Path:
    """The rehearsal's hub with three broken tables.

    One is no parquet file, one lacks the questions, and one lacks a kind of question.
    """
    root = folder / "served"
    shutil.copytree(served, root)
    for path in (root / "datasets" / BROKEN["mindcube_tiny"]).rglob("*.parquet"):
        path.write_bytes(b"PAR1 nothing PAR1")
    for path in (root / "datasets" / BROKEN["spar_bench"]).rglob("*.parquet"):
        pd.read_parquet(path).drop(columns="question").to_parquet(path, index=False)
    (path,) = (root / "datasets").rglob("test_debiased.parquet")
    table = pd.read_parquet(path)
    table[table["question_type"] != "object_rel_direction_hard"].to_parquet(path, index=False)
    return root


@pytest.fixture(scope="module")
def broken(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Launch, Results]:
    """A run over broken data, whose hub is gone as soon as all is fetched.

    Two of five benchmarks cannot be read, and the last one cannot be scored.
    """
    folder = tmp_path_factory.mktemp("broken")
    user = User(folder / "user")
    model = shutil.copytree(runs.served / "models" / "easi-smoke" / "Tiny-VLM", folder / "Some-VLM")
    with LocalHub(broken_data(runs.served, folder)) as running:
        command = options(model, folder / "out", "--benchmarks", ",".join((*GOOD, *BROKEN, LAST)))
        with user.start(
            *command, HF_ENDPOINT=running.endpoint, NO_PROXY="127.0.0.1", HF_HUB_DISABLE_XET="1"
        ) as launch:
            wait_until(lambda: "importing lmms-eval" in launch.out, 300, launch)
            running.stop()
            launch.wait(800)
    return launch, Results(folder / "out")


@pytest.mark.parametrize("key", GOOD)
def test_what_can_be_read_is_answered_and_scored(
    whole: Whole, broken: tuple[Launch, Results], key: str
) -> None:
    launch, results = broken
    assert launch.code == 1, launch.said
    assert results.line(key)["state"] == "complete"
    assert results.score(key) == whole.results.score(key)


@pytest.mark.parametrize(
    ("key", "telling"),
    [
        ("mindcube_tiny", "mindcube_tiny: "),
        ("spar_bench", "sparbench: KeyError: 'question'"),
    ],
)
def test_what_cannot_be_read_fails_alone_and_says_why(
    broken: tuple[Launch, Results], key: str, telling: str
) -> None:
    launch, results = broken
    assert results.line(key)["state"] == "failed" and results.line(key)["score"] == ""
    summary = " ".join(launch.out[launch.out.index("Not complete:") :].split())
    assert telling in summary
    assert "Traceback" not in launch.out + launch.err


def test_a_last_benchmark_that_crashes_loses_no_answer(broken: tuple[Launch, Results]) -> None:
    launch, results = broken
    assert results.line(LAST)["state"] == "failed" and results.line(LAST)["score"] == ""
    summary = " ".join(launch.out[launch.out.index("Not complete:") :].split())
    assert "object_rel_direction_hard" in summary
    folder = run_folder(results.folder, LMMS_EVAL, "Some-VLM")
    assert len(folder.texts(LAST)) == len(folder.items(LAST)) == 12


def test_it_is_launched_again_once(broken: tuple[Launch, Results]) -> None:
    launch, _ = broken
    assert launch.out.count("the workers ended before all questions were answered") == 1
    assert (
        len(
            {
                command
                for command in launch.commands
                if "--easi-role work" in command and "guard.py" not in command
            }
        )
        == 2
    )


# ---- offline, and very few questions -------------------------------------------------------------


@pytest.fixture(scope="module")
def offline(
    runs: Runs, whole: Whole, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Launch, Results]:
    """All benchmarks without a hub, two questions of each task.

    The data are those that an earlier run fetched; nothing of them is prepared.
    """
    folder = tmp_path_factory.mktemp("offline")
    user = User(folder / "user", secrets=False)
    shutil.copytree(
        whole.out / "rehearsal" / "huggingface",
        user.places[2],
        symlinks=True,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("datasets", "lmms-eval-cwd"),
    )
    model = runs.served / "models" / "easi-smoke" / "Tiny-VLM"
    launch = user.run(
        *options(model, folder / "out", "--include-extra", "--limit", 2),
        HF_HUB_OFFLINE="1",
        HF_ENDPOINT=f"http://127.0.0.1:{a_closed_port()}",
        NO_PROXY="127.0.0.1",
    )
    assert launch.code == 0, launch.said
    return launch, Results(folder / "out")


@pytest.mark.parametrize("key", KEYS)
def test_two_questions_of_each_without_a_hub(
    whole: Whole, offline: tuple[Launch, Results], key: str
) -> None:
    _, results = offline
    line = results.line(key)
    tasks = len(by_key(key).source(LMMS_EVAL).tasks)
    assert (
        line["state"] == "partial"
        and line["n"] == str(2 * tasks)
        and line["total"] == whole.results.line(key)["total"]
    )
    assert line["score"] != ""


def test_a_score_that_the_backend_cannot_give_for_so_few_is_said_to_be_ours(
    offline: tuple[Launch, Results],
) -> None:
    _, results = offline
    said = (results.folder / "easi_scores.md").read_text(encoding="utf-8")
    assert "VSI-Bench, VSI-Debiased: the backend gives no score for so few questions" in said


# ---- what is told beside a number ----------------------------------------------------------------


def right_letter(row: Mapping[str, object]) -> str:
    return str(row["target"]).strip(" ().")[:1]


ODD: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    "mmsi_bench": lambda row: f"I see. <answer>{right_letter(row)}</answer>",
    "viewspatial": lambda row: "B",
    "spar_bench": lambda row: "",
    "omnispatial_(manual_cot)": lambda row: "It is the second one.",
}


@pytest.fixture(scope="module")
def odd(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BenchmarkScore]:
    """The run's own scorer over answers that are odd."""
    root = tmp_path_factory.mktemp("odd") / "run"
    backend = make_backend(LMMS_EVAL, HubSettings("http://127.0.0.1:1", root))
    texts = {}
    for key, say in ODD.items():
        rows = backend.rows(by_key(key), backend.outputs(by_key(key), whole.folder.output(key), ""))
        texts |= {(key, row["item"]): say(row) for row in rows.to_dict("records")}
    answered_otherwise(whole.folder, root, lambda key, item, text: texts.get((key, item), text))
    (command,) = [each for each in whole.folder.manifest["commands"] if "--easi-role score" in each]
    (served,) = (whole.out / "rehearsal").glob("hub-*")
    with LocalHub(served) as running:
        words = [
            re.sub("^HF_ENDPOINT=.*", f"HF_ENDPOINT={running.endpoint}", word)
            for word in shlex.split(command)
        ]
        words = words[words.index("env") :]  # what stands before goes to the run's own folder
        words = [str(root) if word == str(whole.folder.root) else word for word in words]
        words[words.index("--tasks") + 1] = ",".join(
            by_key(key).source(LMMS_EVAL).task for key in ODD
        )
        done = subprocess.run(
            words,
            env=whole.user.environment(HF_HUB_DISABLE_XET="1", NO_PROXY="127.0.0.1"),
            cwd=whole.user.root,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    cfg = RunConfig(
        model="qwen2_5_vl",
        backend=LMMS_EVAL,
        model_args="pretrained=easi-smoke/Tiny-VLM",
        output_dir=root,
    )
    return {
        key: gather(
            cfg,
            backend,
            by_key(key),
            root / "outputs" / f".{key}.scored",
            "",
            ItemList.load(root, key),
            [],
        ).score
        for key in ODD
    }


def test_wrapped_answers_are_told_with_the_score_they_would_have_had(
    odd: dict[str, BenchmarkScore],
) -> None:
    score = odd["mmsi_bench"]
    assert score.reading.overall is not None
    (note,) = [note for note in score.notes if "<answer>" in note]
    assert (
        note.startswith(f"{score.n} answers")
        and "would have been 100.0000 (a diagnosis, not the score)" in note
    )


def test_plain_answers_cost_no_second_scoring(odd: dict[str, BenchmarkScore]) -> None:
    assert odd["viewspatial"].notes == ()


def test_empty_spar_answers_are_counted_and_stay_right(odd: dict[str, BenchmarkScore]) -> None:
    score = odd["spar_bench"]
    (note,) = [note for note in score.notes if "empty answers" in note]
    assert (
        note.startswith("11 empty answers")
        and score.reading.parts["spatial_imagination_oo_accuracy"] == 100
    )


def test_omnispatial_answers_that_count_as_a_are_told(odd: dict[str, BenchmarkScore]) -> None:
    score = odd["omnispatial_(manual_cot)"]
    (note,) = [note for note in score.notes if "count as A" in note]
    assert note.startswith(f"{score.n} answers") and score.reading.overall is not None
    right = round(score.reading.overall / 100 * score.n)
    assert f"({right} of them are right so)" in note
