"""Which libraries a model is loaded with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends import make_backend, resolved
from easi_eval.backends.shared.launch_env import libraries_of
from easi_eval.backends.shared.profile_choice import needs_newer
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.profiles import BASE, NEWER, image_text_types, interpreter
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings

BACKENDS = ("vlmevalkit", "lmms-eval")
OWN_CODE = {"auto_map": {"AutoModelForImageTextToText": "m.M"}}
# A base that 4.57's vision encoders cannot be given.
OTHER_THETA = {"rope_parameters": {"rope_type": "axial", "rope_theta": 5.0}}
SAVED_BY_5 = {
    "model_type": "qwen2_5_vl",
    "transformers_version": "5.24.0",
    "vision_config": {"model_type": "qwen2_5_vl_vision", **OTHER_THETA},
}


def test_profile_5_has_types_that_the_base_lacks() -> None:
    assert {"qwen3_5", "gemma4", "molmo2", "kimi_k25"} <= (
        image_text_types(NEWER) - image_text_types(BASE)
    )


@pytest.mark.parametrize(
    ("config", "own_code", "why"),
    [
        ({"model_type": "qwen3_5"}, False, "only that has model_type qwen3_5"),
        ({"model_type": "qwen3_5"}, True, ""),
        ({"model_type": "qwen2_5_vl"}, False, ""),
        ({"model_type": "nobody_has_this"}, False, ""),
        ({}, False, ""),
        (SAVED_BY_5, False, "rope_theta is 5.0"),
        (SAVED_BY_5, True, ""),
        ({**SAVED_BY_5, "vision_config": {"model_type": "qwen2_5_vl_vision"}}, False, ""),
    ],
)
def test_profile_5_is_for_what_4_cannot_load(
    config: dict[str, object], own_code: bool, why: str
) -> None:
    said = needs_newer(config, own_code)
    assert (why in said) if why else said == ""


def choose(tmp_path: Path, backend: str, **config: object) -> tuple[RunConfig, ModelChoice]:
    folder = tmp_path / "Model-9"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    trust = "auto_map" in config
    cfg = (
        RunConfig(model=str(folder), device="cpu", trust_remote_code=trust)
        if backend == "vlmevalkit"
        else RunConfig(
            backend=backend,
            model="easi_vlm",
            model_args=f"pretrained={folder}",
            device="cpu",
            trust_remote_code=trust,
        )
    )
    hub = HubSettings(endpoint="http://127.0.0.1:9", hf_home=tmp_path / "hf", offline=True)
    return cfg, resolved(cfg, make_backend(backend, hub), hub)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_workers_of_a_model_of_5_run_with_its_libraries(tmp_path: Path, backend: str) -> None:
    cfg, model = choose(tmp_path, backend, model_type="qwen3_5")
    assert model.profile == NEWER
    version = libraries_of(cfg, NEWER)["transformers"]
    assert version.startswith("5.") and libraries_of(cfg, BASE)["transformers"].startswith("4.")
    note = f"loaded with transformers {version}: only that has model_type qwen3_5"
    assert note in model.notes
    launcher = make_backend(backend, HubSettings())
    paths = RunPaths(tmp_path / "run")
    for several in (cfg, replace(cfg, nproc=2), replace(cfg, no_accelerate=True)):
        job = launcher.answer_job(several, model, several.selected, paths, 1)
        assert job.argv[0] == interpreter(NEWER) != interpreter(BASE)
        assert launcher.import_job(several, model).argv[0] == interpreter(NEWER)
        assert launcher.score_job(several, model, several.selected, paths).argv[0] == interpreter(
            BASE
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_python_code_of_a_checkpoint_stays_with_transformers_4(
    tmp_path: Path, backend: str
) -> None:
    _, model = choose(tmp_path, backend, model_type="qwen3_5", **OWN_CODE)
    assert model.profile == BASE and not any("transformers 5" in note for note in model.notes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_type_that_neither_has_is_refused_by_the_generic_class(
    tmp_path: Path, backend: str
) -> None:
    with pytest.raises(EasiError, match="is of model_type nobody_has_this"):
        choose(tmp_path, backend, model_type="nobody_has_this")
