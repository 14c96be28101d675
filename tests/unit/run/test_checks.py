"""Refusals that depend on the machine.

The state of the machine is passed in as data; only the tests of the probes look at this machine.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.cli import parse
from easi_eval.config import RunConfig, SubmissionConfig
from easi_eval.core.errors import EasiError, Refusals
from easi_eval.engine.processes.gpus import Machine, TorchBuild, probe_machine, read_torch_build
from easi_eval.run.checks import check_attention, check_output_dir, check_setup
from easi_eval.run.device_checks import check_device

CFG = RunConfig(model="m")
BUILD = TorchBuild("2.9.1+cu128", (12, 8))
EIGHT = Machine(present=8, visible=8, driver_cuda=(12, 8))


# ---- device --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "machine", "build"),
    [
        ({}, EIGHT, BUILD),
        ({"nproc": 8}, EIGHT, BUILD),
        ({"nproc": 8}, replace(EIGHT, driver_cuda=(13, 0)), BUILD),
        ({"device": "cuda"}, EIGHT, BUILD),
        ({"device": "cpu", "nproc": 16}, EIGHT, BUILD),
        ({"device": "cpu", "nproc": 2}, Machine(), TorchBuild("2.9.1+cpu", None)),
        ({"device": "cpu"}, Machine(8, trouble="the driver answers 802"), BUILD),
        ({"smoke": True, "nproc": 2}, Machine(), BUILD),
        ({"nproc": 2}, Machine(1, 1, (12, 8), shared=2), BUILD),  # two MIG instances of one GPU
        ({"smoke": True}, Machine(present=8, mask=""), BUILD),
        ({"nproc": 2}, replace(EIGHT, driver_cuda=None), BUILD),
    ],
)
def test_devices_that_will_do(
    options: dict[str, object], machine: Machine, build: TorchBuild
) -> None:
    assert check_device(replace(CFG, **options), True, machine, build) == ()


@pytest.mark.parametrize(
    ("options", "machine", "build", "what", "hint"),
    [
        ({}, Machine(), BUILD, "no GPU is visible", "--device cpu"),
        ({}, Machine(present=8, mask=""), BUILD, "(CUDA_VISIBLE_DEVICES is '')", "--device cpu"),
        (
            {"device": "cuda"},
            Machine(),
            BUILD,
            "no GPU is visible",
            "--device cpu",
        ),
        (
            {"device": "cuda", "smoke": True},
            Machine(),
            BUILD,
            "no GPU is visible",
            "--device cpu",
        ),
        (
            {"nproc": 9},
            EIGHT,
            BUILD,
            "--nproc 9 is more than the 8 visible GPU(s)",
            "use --nproc 8",
        ),
        (
            {"nproc": 2, "smoke": True},
            replace(EIGHT, visible=1, mask="3"),
            BUILD,
            "--nproc 2 is more than the 1 visible",
            "CUDA_VISIBLE_DEVICES",
        ),
        (
            {},
            EIGHT,
            TorchBuild("2.9.1+cpu", None),
            "torch 2.9.1+cpu cannot use them: it is built without CUDA",
            "bash scripts/setup.sh",
        ),
        (
            {},
            replace(EIGHT, driver_cuda=(11, 8)),
            BUILD,
            "built for CUDA 12.8, and the driver supports up to 11.8",
            "newer NVIDIA driver",
        ),
        (
            {"nproc": 3},
            Machine(1, 1, (12, 8), shared=2),
            BUILD,
            "--nproc 3 is more than the 2 visible GPU(s)",
            "--nproc 2",
        ),
        (
            {},
            Machine(8, 0, (12, 8), "the driver answers 802: x"),
            BUILD,
            "8 GPU(s) are here, but torch 2.9.1+cu128 cannot use them: the driver answers 802",
            "driver",
        ),
        (
            {"smoke": True},
            Machine(2, trouble="the driver's library libcuda.so.1 is not here"),
            BUILD,
            "libcuda.so.1",
            "driver",
        ),
    ],
)
def test_devices_that_will_not_do(
    options: dict[str, object], machine: Machine, build: TorchBuild, what: str, hint: str
) -> None:
    with pytest.raises(EasiError) as error:
        check_device(replace(CFG, **options), True, machine, build)
    assert what in error.value.message
    assert hint in error.value.hint


def test_the_cpu_hint_is_the_same_command_on_the_cpu() -> None:
    cfg = replace(CFG, output_dir=Path("a b"))
    with pytest.raises(EasiError) as error:
        check_device(cfg, True, Machine(), BUILD)
    words = shlex.split(error.value.hint.partition(": ")[2])
    assert parse(words[words.index("--model") :]) == replace(cfg, device="cpu")


def test_a_model_behind_an_api_needs_no_gpu() -> None:
    assert check_device(replace(CFG, nproc=4), False, Machine(), BUILD) == ()


def test_a_slightly_older_driver_is_said_and_not_refused() -> None:
    [note] = check_device(CFG, True, replace(EIGHT, driver_cuda=(12, 4)), BUILD)
    assert "12.4" in note
    assert "12.8" in note


def test_another_vendors_build_is_left_alone() -> None:
    [note] = check_device(
        replace(CFG, nproc=4), True, Machine(), TorchBuild("2.9.1+rocm6.4", None, "6.4")
    )
    assert "ROCm" in note


def test_the_probe_of_this_machine_agrees_with_the_kernel() -> None:
    machine = probe_machine({})
    boards = Path("/proc/driver/nvidia/gpus")
    assert machine.present >= (len(list(boards.iterdir())) if boards.is_dir() else 0)
    assert machine.present >= machine.visible >= 0
    assert machine.mask is None
    assert probe_machine({"CUDA_VISIBLE_DEVICES": "0"}).mask == "0"


def test_torchs_build_is_read_without_importing_it() -> None:
    code = (
        "import sys; from easi_eval.engine.processes.gpus import read_torch_build\n"
        "build = read_torch_build()\n"
        "assert 'torch' not in sys.modules; print(build.version.partition('+')[0])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    from importlib.metadata import version

    assert ran.stdout.strip() == version("torch").partition("+")[0]
    build = read_torch_build()
    assert build.cuda is None or build.cuda >= (11, 0)


# ---- packages, folders, token --------------------------------------------------------------------

ATTENTION = RunConfig(
    model="qwen3_vl",
    backend="lmms-eval",
    model_args="pretrained=Qwen/Qwen3-VL-8B-Instruct,attn_implementation=flash_attention_2",
)


@pytest.mark.parametrize(
    ("cfg", "has_flash_attn"),
    [
        (ATTENTION, True),
        (CFG, False),
        (replace(ATTENTION, model_args="pretrained=a/b,attn_implementation=sdpa"), False),
        (replace(ATTENTION, model_args="pretrained=a/flash_attention_2_test"), False),
    ],
)
def test_attention_that_will_do(cfg: RunConfig, has_flash_attn: bool) -> None:
    check_attention(cfg, has_flash_attn, lambda: True)


@pytest.mark.parametrize(
    ("cfg", "has_flash_attn", "imports", "why"),
    [
        (ATTENTION, False, True, "flash_attn is not installed"),
        (ATTENTION, True, False, "flash_attn does not import (was it built for another torch?)"),
        (replace(ATTENTION, device="cpu"), True, True, "it does not run on the CPU"),
        (
            replace(CFG, model_args='attn_implementation="flash_attention_2"'),
            False,
            True,
            "flash_attn is not installed",
        ),
    ],
)
def test_flash_attention_that_cannot_run_is_refused_with_the_same_line_on_sdpa(
    cfg: RunConfig, has_flash_attn: bool, imports: bool, why: str
) -> None:
    with pytest.raises(EasiError) as error:
        check_attention(cfg, has_flash_attn, lambda: imports)
    assert error.value.message == f"attn_implementation=flash_attention_2, but {why}"
    words = shlex.split(error.value.hint)
    again = parse(list(words[words.index("--model") :]))
    assert again.model_arguments == {**cfg.model_arguments, "attn_implementation": "sdpa"}
    assert replace(again, model_args=cfg.model_args) == cfg


def test_an_output_folder_is_judged_without_being_made(tmp_path: Path) -> None:
    check_output_dir(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "dangling"):
        with pytest.raises(EasiError, match="is not a folder"):
            check_output_dir(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EasiError, match="is not writable"):
        check_output_dir(tmp_path / "a")


SUBMIT = replace(CFG, submit=True, submission=SubmissionConfig("a/b", "rl", "int8"))


def test_submitting_needs_the_token(tmp_path: Path) -> None:
    cfg, home = replace(SUBMIT, output_dir=tmp_path), {"HF_HOME": str(tmp_path / "home")}
    check_setup(cfg, Refusals(), {**home, "HF_TOKEN": "hf_x"})
    for environ in (home, {**home, "HF_TOKEN": " "}):
        with pytest.raises(EasiError, match="--submit needs HF_TOKEN") as error:
            check_setup(cfg, Refusals(), environ)
        assert ".env" in error.value.hint
    with pytest.raises(EasiError, match="is not a token") as error:
        check_setup(cfg, Refusals(), {**home, "HF_TOKEN": "hf_x\nhf_y"})
    assert "hf_x" not in error.value.message + error.value.hint


def test_a_stored_login_is_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_stored\n")
    check_setup(replace(SUBMIT, output_dir=tmp_path), Refusals(), {"HF_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("easi.lmms-lab.com/api", "is not an http(s) address"),
        ("ftp://easi.lmms-lab.com/api", "is not an http(s) address"),
        ("https:///api", "is not an http(s) address"),
        ("https://board:port/", "is not an address"),
        ("http://easi.lmms-lab.com/api/", "could read the token"),
        ("https://me:secret@easi.lmms-lab.com/", "holds a user name or password"),
    ],
)
def test_an_address_that_will_not_do_is_refused_at_the_start(
    tmp_path: Path, address: str, what: str
) -> None:
    cfg = replace(SUBMIT, output_dir=tmp_path)
    with pytest.raises(EasiError) as error:
        check_setup(cfg, Refusals(), {"HF_TOKEN": "hf_x", "EASI_SUBMIT_URL": address})
    assert what in error.value.message
    assert "secret" not in error.value.message + error.value.hint
    check_setup(
        replace(cfg, submit=False, submission=None), Refusals(), {"EASI_SUBMIT_URL": address}
    )
    check_setup(cfg, Refusals(), {"HF_TOKEN": "hf_x", "EASI_SUBMIT_URL": "http://localhost:8000/x"})


def test_a_backend_path_without_the_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EasiError, match="has no vlmeval package"):
        check_setup(replace(CFG, backend_path=tmp_path), Refusals(), {})


def test_a_dry_run_collects_every_refusal_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cfg = replace(
        SUBMIT,
        output_dir=tmp_path / "file",
        model_args="attn_implementation=flash_attention_2",
        dry_run=True,
    )
    refusals = Refusals(collect=True)
    for _ in range(2):
        check_setup(cfg, refusals, {"HF_HOME": str(tmp_path), "EASI_SUBMIT_URL": "ftp://board/api"})
    said = [refusal.message for refusal in refusals.found]
    assert len(said) == 4 and all(
        any(word in message for message in said)
        for word in ("flash_attn", "is not a folder", "http(s)", "HF_TOKEN")
    )
