"""Quantised checkpoints whose library is missing are refused from config.json.

What would run is not refused.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.backends.shared.quantised import METHODS, installed, methods, refuse
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.data.needs import HubSettings

QUANTIZERS = Path(find_spec("transformers").origin).parent / "quantizers"
NEED_NOTHING = {"bitnet", "fp8", "mxfp4"}


def checkpoint(folder: Path, **config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", **config}))
    return folder


def of(method: str, **more: object) -> dict[str, object]:
    return {"quantization_config": {"quant_method": method, **more}}


@pytest.mark.parametrize(
    "method", ["awq", "gptq", "bitsandbytes", "compressed-tensors", "hqq", "torchao"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_both_backends_refuse_it_in_the_folder_of_the_user(
    tmp_path: Path, method: str, nested: bool
) -> None:
    settings = of(method, load_in_4bit=method == "bitsandbytes")
    folder = checkpoint(tmp_path / "Mine", **({"text_config": settings} if nested else settings))
    hub = HubSettings(hf_home=tmp_path / "hf", offline=True)
    for backend, cfg in (
        (VLMEvalKit(hub), RunConfig(model=str(folder))),
        (
            LmmsEval(hub),
            RunConfig(model="qwen2_5_vl", backend="lmms-eval", model_args=f"pretrained={folder}"),
        ),
    ):
        with pytest.raises(EasiError) as error:
            backend.ready(cfg, backend.resolve(cfg))
        package = METHODS[method].packages[0][0]
        assert re.match(
            rf"Mine is quantised with {method}, which needs {package}\b.* not installed",
            error.value.message,
        )
        assert "--no-deps" in error.value.hint and "quantised from" in error.value.hint


def test_engines_own_classes_and_unquantised_checkpoints_are_left_alone(tmp_path: Path) -> None:
    hub = HubSettings(hf_home=tmp_path / "hf", offline=True)
    folder = checkpoint(tmp_path / "Mine", **of("awq"))
    engine = RunConfig(model="srt_api", backend="lmms-eval", model_args=f"model_version={folder}")
    LmmsEval(hub).ready(engine, LmmsEval(hub).resolve(engine))
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text(
        "from vlmeval.vlm.base import BaseModel\n\n\nclass Mine(BaseModel):\n"
        "    def __init__(self, model_path):\n        pass\n\n"
        "    def generate_inner(self, message, dataset=None):\n        pass\n"
    )
    kit, cfg = VLMEvalKit(hub, own), RunConfig(model="Mine", model_args=f"model_path={folder}")
    kit.ready(cfg, kit.resolve(cfg))
    whole = RunConfig(model=str(checkpoint(tmp_path / "Whole", quantization_config=None)))
    kit.ready(whole, kit.resolve(whole))


@pytest.mark.parametrize(
    ("config", "cpu"),
    [
        ({}, True),
        (of("bitsandbytes"), True),  # neither 4 nor 8 bits: nothing is quantised
        (of("mxfp4"), True),  # unpacked where there are no kernels
        (of("bitnet"), True),
        (of("fp8"), False),
        (of("something-new"), True),  # transformers ignores it, and misses the weights if it must
        ({"quantization_config": "none", "text_config": None}, True),
    ],
)
def test_what_needs_no_library_is_not_refused(config: dict[str, object], cpu: bool) -> None:
    refuse("m", config, cpu, has=lambda package: False)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_with_its_library_each_loads_but_for_what_needs_a_gpu(method: str) -> None:
    config = of(method, load_in_8bit=method == "bitsandbytes")
    refuse("m", config, False, has=lambda package: True)
    if METHODS[method].gpu:
        with pytest.raises(EasiError, match="on a GPU only"):
            refuse("m", config, True, has=lambda package: True)
    else:
        refuse("m", config, True, has=lambda package: True)


def test_either_of_two_packages_is_enough_and_all_that_lack_are_named() -> None:
    refuse("m", of("gptq"), False, has=lambda package: package in ("optimum", "auto-gptq"))
    with pytest.raises(EasiError, match="needs optimum and gptqmodel, "):
        refuse("m", of("gptq"), False, has=lambda package: False)
    assert installed("torch") and installed("numpy") and not installed("autoawq")
    # as transformers reads it
    assert list(methods(of("gptq", load_in_4bit=True))) == ["bitsandbytes"]


def test_the_table_knows_every_method_of_the_installed_transformers() -> None:
    text = (QUANTIZERS / "auto.py").read_text()
    table = text[text.index("AUTO_QUANTIZER_MAPPING = {") :]
    known = {
        re.sub("_[48]bit$", "", name)
        for name in re.findall(r'^    "([\w-]+)":', table[: table.index("}")], re.MULTILINE)
    }
    assert known == {*METHODS, *NEED_NOTHING}
