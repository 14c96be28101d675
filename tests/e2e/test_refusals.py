"""What the program says and leaves alone when it starts no backend: these are quick."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from program import User, a_closed_port, files_below
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


@pytest.fixture
def model(user: User) -> Path:
    """A folder that looks like a checkpoint as far as it is looked at before a launch."""
    folder = user.root / "Some-VLM"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    return folder


@pytest.mark.alone
def test_a_hub_that_is_down_is_said_once_and_soon(user: User, model: Path) -> None:
    launch = user.run(
        "--model",
        model,
        "--device",
        "cpu",
        "--benchmarks",
        "blink,embspatial",
        "--dataset-dir",
        user.root / "data",
        "--output-dir",
        user.root / "out",
        "--no-rich",
        HF_ENDPOINT=f"http://127.0.0.1:{a_closed_port()}",
        NO_PROXY="127.0.0.1",
    )
    assert launch.code == 2
    assert launch.seconds < 15
    assert (
        launch.err.count("error:") == 1
        and launch.err.count("hint:") == 1
        and launch.err.count("\n") == 2
    )
    assert "127.0.0.1" in launch.err and "Traceback" not in launch.out + launch.err
    assert not [command for command in launch.commands if "run.py" in command]
    assert not list((user.root / "out").glob("easi_*"))


@pytest.mark.alone
def test_an_unknown_model_type_is_refused_at_once(user: User) -> None:
    options = (
        "--backend",
        "lmms-eval",
        "--model",
        "qwen2_5_vll",
        "--model-args",
        "pretrained=some/model",
        "--device",
        "cpu",
        "--output-dir",
        user.root / "out",
    )
    launches = [user.run(*options) for _ in range(3)]
    for launch in launches:
        assert launch.code == 2
        assert "--model qwen2_5_vll" in launch.err and "did you mean qwen2_5_vl" in launch.err
        assert launch.err.count("\n") == 2 and launch.out == ""
        assert launch.logs == []
    assert min(launch.cost for launch in launches) < 1
    assert files_below([user.root / "out"]) == []


@pytest.mark.parametrize("config", [None, '{"model_type": "qwen'])
def test_a_model_folder_without_a_readable_config_is_refused(
    user: User, model: Path, config: str | None
) -> None:
    (model / "config.json").unlink()
    if config is not None:
        (model / "config.json").write_text(config)
    launch = user.run("--smoke", "--model", model, "--output-dir", user.root / "out")
    assert launch.code == 2
    assert (
        str(model / "config.json") in launch.err
        and launch.err.count("error:") == 1
        and launch.err.count("\n") == 2
    )
    assert files_below([user.root / "out"]) == []


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
@pytest.mark.parametrize("damage", ["cut", "shard"])
def test_a_damaged_checkpoint_is_refused_before_anything_starts(
    user: User, backend: str, damage: str
) -> None:
    folder = checkpoint.build(user.root / "Mine")
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    if damage == "cut":
        os.truncate(weights, 300_000)
        told = f"{weights} is cut: 300,000 bytes are there, and its header says {size:,}"
    else:
        weights.rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(
            json.dumps(
                {
                    "weight_map": {
                        "a": "model-00001-of-00002.safetensors",
                        "b": "model-00002-of-00002.safetensors",
                    }
                }
            )
        )
        told = (
            f"{folder / 'model.safetensors.index.json'} names 2 files, and 1 of them is not "
            "there: model-00002-of-00002.safetensors"
        )
    model = (
        ("--model", folder)
        if backend == "vlmevalkit"
        else ("--model", "qwen2_5_vl", "--model-args", f"pretrained={folder}")
    )
    options = ("--smoke", "--backend", backend, *model, "--output-dir", user.root / "out")
    refused, planned = user.run(*options), user.run(*options, "--dry-run")
    assert refused.code == 2 and refused.err.splitlines() == [
        f"error: {told}",
        "hint: copy or download the checkpoint again, with every file complete",
    ], refused.said
    assert refused.cost < 10 and not [
        command for command in refused.commands if "run.py" in command
    ]
    assert planned.code == 2 and [
        line for line in planned.out.splitlines() if line.startswith("blocked ")
    ] == [f"blocked  {told}"], planned.said
    assert files_below([user.root / "out"]) == []


@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_a_dry_run_shows_the_commands_and_starts_nothing(user: User, backend: str) -> None:
    launch = user.run(
        "--smoke",
        "--dry-run",
        "--verbose",
        "--backend",
        backend,
        "--nproc",
        2,
        "--output-dir",
        user.root / "out",
    )
    assert launch.code == 0, launch.said
    commands = [line for line in launch.out.splitlines() if "--easi-run" in line]
    assert (
        (len(commands) == 2 and "--nproc" in commands[0] + commands[1])
        or "--nproc_per_node" in launch.out
        or "num_processes" in launch.out
    )
    assert not [command for command in launch.commands if "--easi-run" in command]
    assert files_below([user.root / "out", user.places[0], user.places[2]]) == []


def test_a_dry_run_tells_what_would_be_downloaded(user: User, model: Path) -> None:
    """From a hub that nobody can ask: the size is unknown, which is said and no error."""
    launch = user.run(
        "--model",
        model,
        "--device",
        "cpu",
        "--benchmarks",
        "blink",
        "--dry-run",
        "--dataset-dir",
        user.root / "data",
        "--output-dir",
        user.root / "out",
        HF_ENDPOINT=f"http://127.0.0.1:{a_closed_port()}",
        NO_PROXY="127.0.0.1",
    )
    assert launch.code == 0, launch.said
    (asked,) = [line for line in launch.out.splitlines() if line.startswith("run ")]
    assert "blink" in asked and "1,901 questions" in asked and "size unknown" in asked
    assert launch.out.count("cannot be reached") == 1 and "--easi-run" not in launch.out


def test_a_plan_may_be_made_where_there_is_no_gpu(user: User, model: Path) -> None:
    """On a cluster's login node; the run itself is refused there."""
    options = (
        "--model",
        model,
        "--nproc",
        8,
        "--benchmarks",
        "blink",
        "--output-dir",
        user.root / "out",
    )
    told = {
        "HF_ENDPOINT": f"http://127.0.0.1:{a_closed_port()}",
        "NO_PROXY": "127.0.0.1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    planned, refused = user.run(*options, "--dry-run", **told), user.run(*options, **told)
    assert planned.code == 2 and planned.err == "", planned.said
    lines = planned.out.splitlines()
    assert any(
        line.startswith("blocked ") and "no GPU is visible" in line for line in lines
    ) and any(line.startswith("run ") for line in lines)
    assert refused.code == 2 and refused.err.count("\n") == 2


def test_a_dry_run_tells_all_that_is_in_the_way_and_the_plan(user: User) -> None:
    """The guide's line for lmms-eval, on a machine without flash-attn, a GPU or a network."""
    planned = user.run(
        "--backend",
        "lmms-eval",
        "--model",
        "qwen3_vl",
        "--model-args",
        "pretrained=org/Some-VLM,attn_implementation=flash_attention_2",
        "--nproc",
        4,
        "--dry-run",
        "--output-dir",
        user.root / "out",
        HF_ENDPOINT=f"http://127.0.0.1:{a_closed_port()}",
        NO_PROXY="127.0.0.1",
        CUDA_VISIBLE_DEVICES="-1",
    )
    blocked = [line for line in planned.out.splitlines() if line.startswith("blocked ")]
    assert (
        planned.code == 2
        and len(blocked) == 2
        and "flash_attn is not installed" in blocked[0]
        and "no GPU is visible" in blocked[1]
    ), planned.said
    assert planned.out.count("\nrun  ") == 9 and planned.out.count("cannot be reached") == 1
