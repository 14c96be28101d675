"""What VLMEvalKit's own command line is refused for, or told, before the package is loaded."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._http import reset_sessions

from docs import commands, fenced, text
from easi_eval.core.errors import EasiError
from easi_eval.engine.processes.gpus import probe_machine
from easi_vlmevalkit import direct, outcomes, run_functions
from program import a_closed_port


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_API_BASE",
        "MMEVAL_ROOT",
        "RANK",
        "VLMEVALKIT_USE_MODELSCOPE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LMUData", str(tmp_path / "LMU"))
    monkeypatch.setenv("EASI_VLM_DIR", str(tmp_path / "own"))
    # Offline is a state of the hub client itself; other tests of this process need it as it was.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)
    yield
    monkeypatch.undo()
    reset_sessions()


def run(*argv: str) -> int:
    before = "vlmeval" in sys.modules
    try:
        return direct.run_directly(None, list(argv))
    finally:
        assert ("vlmeval" in sys.modules) == before


def test_a_judge_without_a_key_is_refused() -> None:
    with pytest.raises(EasiError, match="needs OPENAI_API_KEY"):
        run("--data", "BLINK", "--model", "GPT4o_20241120", "--judge", "gpt-4o-1120")


def test_a_judge_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    monkeypatch.setenv("OPENAI_API_BASE", f"http://127.0.0.1:{a_closed_port()}/v1")
    with pytest.raises(EasiError, match="cannot be reached"):
        run("--data", "BLINK", "--model", "GPT4o_20241120", "--judge", "gpt-4o-1120")


def test_a_model_that_is_nothing_is_refused() -> None:
    with pytest.raises(EasiError, match="NoSuchModel is neither a name of VLMEvalKit's registry"):
        run("--data", "BLINK", "--model", "NoSuchModel", "--judge", "exact_matching")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("VSI-Bench_32frames", "VSI-Bench_32frame"),
        ("EmbSpatial-Bench", "EmbSpatialBench"),
        ("mmbench_dev_en", "MMBench_DEV_EN"),
    ],
)
def test_an_unknown_dataset_is_refused_with_the_nearest_names(typed: str, meant: str) -> None:
    with pytest.raises(EasiError, match="has no such dataset") as refused:
        run("--data", "BLINK", typed, "--model", "GPT4o_20241120", "--judge", "exact_matching")
    assert meant in (refused.value.hint or "")


def test_a_table_of_the_users_own_is_left_to_vlmevalkit(tmp_path: Path) -> None:
    (tmp_path / "LMU").mkdir()
    (tmp_path / "LMU" / "EmbSpatial-Bench.tsv").write_text("index\n", encoding="utf-8")
    direct.check_data(["EmbSpatial-Bench", "BLINK", "NoSuchBench"])


def test_without_a_gpu_a_class_that_needs_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if probe_machine().visible:
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    with pytest.raises(EasiError, match="no GPU is visible, and Qwen2VLChat needs one") as refused:
        run("--data", "BLINK", "--model", "Qwen2.5-VL-7B-Instruct", "--judge", "exact_matching")
    assert "--device cpu" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "block",
    [block for block in fenced(text("VLMEvalKit/README.md"), "bash") if "run.py" in block],
    ids=["one benchmark", "the guide's"],
)
def test_without_a_gpu_the_lines_of_the_readme_are_refused_at_once(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of data, model and judge are understood by then, and nothing is imported."""
    if probe_machine().visible:
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    line = block.replace("{your_model}", "Qwen2.5-VL-7B-Instruct")
    _, words = commands(line.replace("gpt-4o-1120", "exact_matching"))
    with pytest.raises(EasiError, match="no GPU is visible, and Qwen2VLChat needs one"):
        run(*words[2:])


def test_data_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    with pytest.raises(EasiError):
        run("--data", "BLINK", "--model", "GPT4o_20241120", "--judge", "exact_matching")


@pytest.mark.parametrize(
    ("data", "judge", "expected"),
    [
        ("VSI-Bench_32frame", None, "exact_matching"),
        ("MMVet", None, "gpt-4-turbo"),
        ("BLINK", "gpt-4o-1120", "gpt-4o-1120"),
    ],
)
def test_rules_score_easis_datasets_unless_a_judge_is_named(
    data: str, judge: str | None, expected: str
) -> None:
    found = run_functions.judge_options(
        lambda name, kind, args: {"model": judge or "gpt-4-turbo", "nproc": 4},
        data,
        "MCQ",
        Namespace(judge=judge),
    )
    assert found == {"model": expected, "nproc": 4}


@pytest.mark.parametrize(("options", "left"), [([], True), (["--work-dir", "w"], False)])
def test_mmeval_root_holds_where_no_work_dir_is_given(
    options: list[str],
    left: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MMEVAL_ROOT", "/somewhere")
    direct.prepare_environment(
        direct.DirectOptions.of(["--data", "BLINK", "--model", "m", *options])
    )
    assert ("MMEVAL_ROOT" in os.environ) == left
    assert "/somewhere" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["--data", "BLINK"], ["--model", "m"]])
def test_without_data_or_model_nothing_starts(argv: list[str]) -> None:
    with pytest.raises(EasiError, match="--data and --model are needed"):
        run(*argv)


@pytest.mark.parametrize(("complete", "answered"), [(True, []), (False, ["VSI-Bench"])])
def test_videos_that_are_all_answered_are_left_alone_by_every_rank(
    complete: bool, answered: list[str]
) -> None:
    asked: list[str] = []
    source = SimpleNamespace(dataset_name="VSI-Bench", data={"index": [1, 2]})
    run_functions.infer_videos(
        lambda model, **options: asked.append(options["dataset"].dataset_name),
        lambda path, dataset_indices, retry_failed: complete,
        "m",
        dataset=source,
        result_file="f.xlsx",
        retry_failed=True,
    )
    assert asked == answered


def test_a_model_built_from_a_config_leaves_the_number_of_ranks_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    built = run_functions.keeping_world_size(
        lambda cfg, name: os.environ.pop("WORLD_SIZE") and f"{name} of {cfg}"
    )
    assert built("c", "m") == "m of c" and os.environ["WORLD_SIZE"] == "2"


@pytest.mark.parametrize(
    ("given", "built"),
    [
        ({"class": "SiteBenchImage", "dataset": "SiteBenchImage"}, "by name: SiteBenchImage"),
        ({"class": "VideoMME", "dataset": "Video-MME", "nframe": 16}, "as before"),
        ({}, "as before"),
    ],
)
def test_a_dataset_of_a_config_is_the_one_it_names(given: dict[str, object], built: str) -> None:
    assert (
        run_functions.build_dataset_from_config(
            lambda name: f"by name: {name}", lambda cfg, name: "as before", {"D": given}, "D"
        )
        == built
    )


@pytest.mark.parametrize(
    ("text", "read"), [("0", 0), ("GPU-8a1f", "GPU-8a1f"), ("MIG-GPU-1/2/3", "MIG-GPU-1/2/3")]
)
def test_a_gpu_may_have_a_name(text: str, read: object) -> None:
    assert run_functions.number_or_name(text) == read


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metrics_source": {"Overall": 1.0}}, ""),
        ({"skip_reason": "mode_infer"}, ""),
        ({"skip_reason": "Incomplete infer result"}, "Incomplete infer result"),
        ({"error_message": "boom"}, "boom"),
        ({"error_message": ""}, "an error without a message; its traceback is above"),
    ],
)
def test_only_a_score_or_an_intended_omission_is_no_failure(
    fields: dict[str, object], reason: str
) -> None:
    assert outcomes._reason(fields) == reason
