"""``cd VLMEvalKit && python run.py ...`` as the guide writes it.

This is VLMEvalKit's own loop, with its traps closed. Three launches serve all tests. The first runs
on two ranks over four datasets, images and video, with four models: one whose class is the user's,
one from the hub and two from folders. The second goes on with what the first left, after some of it
was changed, and the third asks a served model and a judge.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import checkpoints
from easi_eval.data.local_hub.server import LocalHub
from judge_server import KEY, judge_server
from openai_server import openai_server
from program import REPOSITORY, User, a_closed_port
from rehearsal_data import repositories

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

PROJECT = REPOSITORY / "VLMEvalKit"
CPU_AS_CUDA = REPOSITORY / "tests" / "cpu_as_cuda"
DATA = ["MindCubeBench_tiny_raw_qa", "VSI-Bench_32frame", "BLINK", "3DSRBench"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
HUB_ID = "easi-smoke/Tiny-VLM"
SERVED = "org/Qwen2.5-VL-served"
# VLMEvalKit's loop gives models of that name an additional argument.
MISNAMED = "no-Qwen2.5-VL-but-smolvlm2"
OLDER = "T20200101-000000"


@dataclass(frozen=True)
class Said:
    code: int
    text: str


@dataclass(frozen=True)
class Direct:
    """Both launches, and their folder ``work/<model>``.

    ``scores`` is what BLINK scored before its answers were changed.
    """

    first: Said
    again: Said
    judged: Said
    questions: list[str]  # what the judge was asked
    requests: list[str]  # what the served model was asked
    root: Path
    before: dict[str, str]


def readme_example() -> str:
    text = (PROJECT / "vlmeval" / "vlm" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return code


def started(user: User, endpoint: str, argv: list[str], **changes: str) -> Said:
    env = user.environment(
        HF_ENDPOINT=endpoint,
        HF_HUB_DISABLE_XET="1",
        LMUData=str(user.root / "LMU"),
        EASI_VLM_DIR=str(user.root / "own"),
        **changes,
    )
    done = subprocess.run(
        [sys.executable, *argv], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=600
    )
    return Said(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    root = tmp_path_factory.mktemp("direct")
    user = User(root, secrets=False)
    served, own, work = root / "hub", root / "own", root / "work"
    repositories.build(served)
    checkpoints.qwen2_5_vl(served / "models" / HUB_ID)
    folders = [
        str(build(root / name))
        for name, build in (
            ("llava-onevision-tiny", checkpoints.llava_onevision),
            (MISNAMED, checkpoints.smolvlm2),
        )
    ]
    own.mkdir()
    (own / "my_model.py").write_text(
        readme_example().replace(
            'model_path="Qwen/Qwen2.5-VL-3B-Instruct"', f'model_path="{HUB_ID}"'
        ),
        encoding="utf-8",
    )
    (own / "qwen2_vl.py").write_text(
        "raise SystemExit('the installed module was replaced')\n", encoding="utf-8"
    )
    stale = work / "MyModel" / "MyModel_BLINK.xlsx"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"answers of an earlier run")
    with LocalHub(served) as running:
        first = started(
            user,
            running.endpoint,
            [
                *TORCHRUN,
                str(a_closed_port()),
                "run.py",
                "--data",
                *DATA,
                "--model",
                "MyModel",
                HUB_ID,
                *folders,
                "--verbose",
                "--limit",
                "2",
                "--judge",
                "exact_matching",
                "--work-dir",
                str(work),
            ],
            PYTHONPATH=str(CPU_AS_CUDA),
            MMEVAL_ROOT=str(root / "elsewhere"),
            CUDA_VISIBLE_DEVICES="GPU-8a1f0c52,MIG-0c1d",
        )
        before = {}
        if first.code == 0:
            before = change(work / "MyModel")
        again = started(
            user,
            running.endpoint,
            [
                *TORCHRUN,
                str(a_closed_port()),
                "run.py",
                "--data",
                *DATA,
                "NoSuchBench",
                "--model",
                "MyModel",
                "--reuse",
                "--limit",
                "2",
            ],
            MMEVAL_ROOT=str(work),
        )
        with judge_server() as judge, openai_server(say="hmm") as server:
            judged = started(
                user,
                running.endpoint,
                [
                    "run.py",
                    "--data",
                    "BLINK",
                    "--model",
                    SERVED,
                    "--base-url",
                    server.url.removesuffix("/chat/completions"),
                    "--limit",
                    "2",
                    "--judge",
                    "gpt-4o-1120",
                    "--judge-base-url",
                    judge.base,
                    "--judge-key",
                    KEY,
                    "--work-dir",
                    str(work),
                ],
            )
    yield Direct(first, again, judged, judge.questions, list(server.asked.elements()), root, before)
    shutil.rmtree(root, ignore_errors=True)


def change(folder: Path) -> dict[str, str]:
    """Change what the first launch left, before the second.

    BLINK and 3DSRBench get other answers, all wrong; one question of VSI-Bench has failed; an older
    prediction of MindCube lies in a T-folder.
    """
    before = {
        name: (folder / name).read_text()
        for name in ("MyModel_BLINK_acc.csv", "MyModel_3DSRBench_results.tsv")
    }
    for name in ("BLINK", "3DSRBench"):
        path = folder / f"MyModel_{name}.xlsx"
        table = pd.read_excel(path)
        table["prediction"] = ["B" if answer == "A" else "A" for answer in table["answer"]]
        table.to_excel(path, index=False)
    path = folder / "MyModel_VSI-Bench_32frame.xlsx"
    table = pd.read_excel(path, dtype=str)
    table["prediction"] = ["Failed to obtain answer via API.", "kept"]
    table.to_excel(path, index=False)
    older = folder / OLDER / "MyModel_MindCubeBench_tiny_raw_qa.xlsx"
    older.parent.mkdir()
    table = pd.read_excel(folder / older.name)
    table["prediction"] = "an older answer"
    table.to_excel(older, index=False)
    os.utime(older, (1_500_000_000, 1_500_000_000))
    return before


def answers(folder: Path, model: str, dataset: str) -> list[str]:
    return pd.read_excel(folder / f"{model}_{dataset}.xlsx")["prediction"].astype(str).tolist()


@pytest.mark.parametrize("model", ["MyModel", "Tiny-VLM", "llava-onevision-tiny", MISNAMED])
@pytest.mark.parametrize("dataset", DATA)
def test_every_model_answers_every_dataset(direct: Direct, model: str, dataset: str) -> None:
    assert direct.first.code == 0, direct.first.text[-6000:]
    folder = direct.root / "work" / model
    found = (
        pd.read_excel(folder / f"{model}_{dataset}.xlsx")
        if model != "MyModel" or not direct.before or dataset == DATA[1]
        else None
    )
    assert found is None or (len(found) == 2 and found["prediction"].notna().any())
    scored = {"BLINK": "_acc.csv", "3DSRBench": "_results.tsv"}.get(
        dataset, "_extract_matching_acc.csv"
    )
    assert (folder / f"{model}_{dataset}{scored}").is_file()


def test_which_class_runs_each_model_is_said_once(direct: Direct) -> None:
    lines = direct.first.text.splitlines()
    assert (
        sum(
            line.startswith(
                "MyModel: my_model.MyModel (a class of your own, in "
                f"{direct.root / 'own' / 'my_model.py'}"
            )
            for line in lines
        )
        == 1
    )
    assert (
        sum(
            line.startswith(f"{HUB_ID}: Qwen2VLChat (its config.json says model_type qwen2_5_vl")
            for line in lines
        )
        == 1
    )
    for name, cls in (("llava-onevision-tiny", "LLaVA_OneVision_HF"), (MISNAMED, "SmolVLM2")):
        assert sum(line.startswith(f"{direct.root / name}: {cls} (") for line in lines) == 1
    assert "loaded with sdpa instead of flash_attention_2" in direct.first.text


def test_a_file_named_like_an_installed_module_is_ignored_and_said(direct: Direct) -> None:
    assert f"{direct.root / 'own' / 'qwen2_vl.py'} is ignored" in direct.first.text
    assert "the installed module was replaced" not in direct.first.text


def test_a_given_work_dir_beats_mmeval_root_and_both_are_said(direct: Direct) -> None:
    assert "is ignored: --work-dir was given" in direct.first.text
    assert not (direct.root / "elsewhere").exists()
    assert f"results go to {direct.root / 'work'}: MMEVAL_ROOT is set" in direct.again.text


def test_data_comes_from_the_hub_that_is_set(direct: Direct) -> None:
    assert {path.name for path in (direct.root / "LMU").glob("*.tsv")} >= {
        "BLINK.tsv",
        "3DSRBench.tsv",
        "MindCubeBench_tiny_raw_qa.tsv",
    }
    assert "modelscope" not in direct.first.text.lower()


def test_without_reuse_a_run_starts_fresh_and_keeps_what_was_there(direct: Direct) -> None:
    (aside,) = (direct.root / "work" / "MyModel").glob("T*/MyModel_BLINK.xlsx")
    assert aside.read_bytes() == b"answers of an earlier run"
    assert f"earlier files are in {aside.parent}" in direct.first.text


def test_changed_answers_are_not_given_the_old_scores(direct: Direct) -> None:
    folder = direct.root / "work" / "MyModel"
    assert pd.read_csv(folder / "MyModel_BLINK_acc.csv")["Overall"].tolist() == [0.0]
    assert (folder / "MyModel_BLINK_acc.csv").read_text() != direct.before["MyModel_BLINK_acc.csv"]
    results = pd.read_csv(folder / "MyModel_3DSRBench_results.tsv", sep="\t")
    assert results["Overall"].tolist() == [0.0] * len(results)
    # VSI-Bench has one answer anew
    assert direct.again.text.count("is removed: it was made from other answers") == 3


def test_reuse_does_not_bring_back_older_answers(direct: Direct) -> None:
    folder = direct.root / "work" / "MyModel"
    assert "an older answer" not in answers(folder, "MyModel", "MindCubeBench_tiny_raw_qa")
    assert f"{folder / 'MyModel_MindCubeBench_tiny_raw_qa.xlsx'} is kept" in direct.again.text


def test_a_dataset_without_a_score_is_said_and_is_the_exit_code(direct: Direct) -> None:
    assert direct.again.code == 1
    errors = [line for line in direct.again.text.splitlines() if line.startswith("error: ")]
    assert errors == ["error: MyModel on NoSuchBench: invalid_dataset"]
    assert "hint: 1 of 5 failed" in direct.again.text


def test_of_videos_only_the_failed_one_is_answered_again_whatever_rank_has_it(
    direct: Direct,
) -> None:
    again, kept = answers(direct.root / "work" / "MyModel", "MyModel", "VSI-Bench_32frame")
    assert kept == "kept" and again != "kept" and "Failed" not in again


def test_a_served_model_keeps_its_name_at_the_server_and_files_have_another(direct: Direct) -> None:
    assert direct.judged.code == 0, direct.judged.text[-4000:]
    name = SERVED.replace("/", "--")
    assert answers(direct.root / "work" / name, name, "BLINK") == ["hmm", "hmm"]
    assert len(direct.requests) == 2


def test_a_judge_is_asked_and_what_it_said_is_kept(direct: Direct) -> None:
    assert len(direct.questions) == 2
    kept = (direct.root / "work" / "judge_answers.jsonl").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 2
    assert (
        "EASI's datasets are scored by rules" in direct.again.text
        and "scored by rules" not in direct.judged.text
    )


def test_keys_are_neither_logged_nor_written(direct: Direct) -> None:
    assert "API Key: [redacted]" in direct.judged.text
    assert KEY not in direct.judged.text
    written = [path for path in (direct.root / "work").rglob("*") if path.is_file()]
    assert [path for path in written if path.name == "status.json"] and [
        path for path in written if path.suffix == ".log"
    ]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
