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
OTHER_CODE = {"auto_map": {"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"}}
# A base that 4.57's vision encoders cannot be given.
OTHER_THETA = {"rope_parameters": {"rope_type": "axial", "rope_theta": 5.0}}
MISTRAL = {"model_type": "mistral3", "text_config": {"model_type": "mistral4"}}
SAVED_BY_5 = {
    "model_type": "qwen2_5_vl",
    "transformers_version": "5.24.0",
    "vision_config": {"model_type": "qwen2_5_vl_vision", **OTHER_THETA},
}


def test_profile_5_has_types_that_the_base_lacks() -> None:
    assert {"qwen3_5", "gemma4", "molmo2", "kimi_k25"} <= (
        image_text_types(NEWER).keys() - image_text_types(BASE).keys()
    )


@pytest.mark.parametrize(
    ("config", "own_code", "why"),
    [
        ({"model_type": "qwen3_5"}, False, "only this version has model_type qwen3_5"),
        ({"model_type": "qwen3_5"}, True, ""),
        ({"model_type": "qwen2_5_vl"}, False, ""),
        ({"model_type": "nobody_has_this"}, False, ""),
        ({}, False, ""),
        (MISTRAL, False, "only this version has text_config of model_type mistral4"),
        (MISTRAL, True, ""),
        ({**MISTRAL, "text_config": {"model_type": "mistral"}}, False, ""),
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


def checkpoint(tmp_path: Path, **config: object) -> Path:
    folder = tmp_path / "Model-9"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def plan(tmp_path: Path, cfg: RunConfig) -> ModelChoice:
    hub = HubSettings(endpoint="http://127.0.0.1:9", hf_home=tmp_path / "hf", offline=True)
    return resolved(cfg, make_backend(cfg.backend, hub), hub)


def choose(tmp_path: Path, backend: str, **config: object) -> tuple[RunConfig, ModelChoice]:
    folder, trust = checkpoint(tmp_path, **config), "auto_map" in config
    cfg = generic(folder, backend, trust)
    return cfg, plan(tmp_path, cfg)


def generic(folder: Path, backend: str, trust: bool = False) -> RunConfig:
    return (
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_workers_of_a_model_of_5_run_with_its_libraries(tmp_path: Path, backend: str) -> None:
    cfg, model = choose(tmp_path, backend, model_type="qwen3_5")
    assert model.profile == NEWER
    version = libraries_of(cfg, NEWER)["transformers"]
    assert version.startswith("5.") and libraries_of(cfg, BASE)["transformers"].startswith("4.")
    note = f"loaded with transformers {version}: only this version has model_type qwen3_5"
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


OTHER_CLASSES = [
    ("vlmevalkit", "Qwen2.5-VL-7B-Instruct", "model_path"),
    ("vlmevalkit", "idefics2_8b", "model_path"),
    ("lmms-eval", "qwen2_5_vl", "pretrained"),
    ("lmms-eval", "mantis", "pretrained"),
]


@pytest.mark.parametrize(("backend", "model", "argument"), OTHER_CLASSES)
def test_a_class_that_cannot_load_a_type_of_5_is_refused_and_the_hint_works(
    tmp_path: Path, backend: str, model: str, argument: str
) -> None:
    folder = checkpoint(tmp_path, model_type="qwen3_5")
    cfg = RunConfig(backend=backend, model=model, model_args=f"{argument}={folder}")
    with pytest.raises(EasiError, match="cannot load Model-9: transformers 5 loads") as refused:
        plan(tmp_path, cfg)
    works = f"--model {folder}" if backend == "vlmevalkit" else "--model easi_vlm --model-args"
    assert works in refused.value.hint
    assert plan(tmp_path, generic(folder, backend)).profile == NEWER


@pytest.mark.parametrize(
    ("backend", "model", "argument", "kind", "loads"),
    [
        ("vlmevalkit", "Qwen2.5-VL-7B-Instruct", "model_path", "qwen2_5_vl", True),
        ("vlmevalkit", "Qwen2.5-VL-7B-Instruct", "model_path", "qwen3_vl", False),
        ("vlmevalkit", "SmolVLM", "model_path", "smolvlm", True),  # has the same weights
        ("vlmevalkit", "SmolVLM2", "model_path", "llava", True),  # a general class of transformers
        ("lmms-eval", "qwen2_5_vl", "pretrained", "qwen2_5_vl", True),
        ("lmms-eval", "qwen2_5_vl", "pretrained", "qwen2_vl", False),
        ("lmms-eval", "llava_hf", "pretrained", "qwen2_5_vl", False),
        ("lmms-eval", "llava", "pretrained", "llava", True),  # loads by means of its own
    ],
)
def test_a_class_that_loads_other_types_is_refused_before_data(
    tmp_path: Path, backend: str, model: str, argument: str, kind: str, loads: bool
) -> None:
    folder = checkpoint(tmp_path, model_type=kind)
    cfg = RunConfig(backend=backend, model=model, model_args=f"{argument}={folder}")
    if loads:
        assert plan(tmp_path, cfg).profile == BASE
        return
    with pytest.raises(EasiError, match="cannot load Model-9: transformers 4 loads") as refused:
        plan(tmp_path, cfg)
    works = f"--model {folder}" if backend == "vlmevalkit" else "--model easi_vlm --model-args"
    assert works in refused.value.hint
    assert plan(tmp_path, generic(folder, backend)).profile == BASE


@pytest.mark.parametrize(
    ("backend", "model", "kind", "file", "says"),
    [
        ("vlmevalkit", "", "qwen2_5_vl", "preprocessor_config.json", "no image processor"),
        ("vlmevalkit", "", "qwen2_5_vl", "tokenizer.json", "no tokenizer"),
        ("vlmevalkit", "Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", "preprocessor_config.json", "no im"),
        ("lmms-eval", "easi_vlm", "qwen3_5", "preprocessor_config.json", "no image processor"),
        ("lmms-eval", "qwen2_5_vl", "qwen2_5_vl", "preprocessor_config.json", "no image processor"),
        ("lmms-eval", "llava", "llava", "preprocessor_config.json", ""),  # its vision tower's
    ],
)
def test_weights_without_the_processor_that_the_class_reads_are_refused(
    tmp_path: Path, backend: str, model: str, kind: str, file: str, says: str
) -> None:
    folder = checkpoint(tmp_path, model_type=kind)
    for name in ("model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    argument = "model_path" if backend == "vlmevalkit" else "pretrained"
    cfg = (
        RunConfig(backend=backend, model=model, model_args=f"{argument}={folder}")
        if model
        else generic(folder, backend)
    )
    here = make_backend(backend, HubSettings(hf_home=tmp_path / "hf", offline=True))
    here.ready(cfg, plan(tmp_path, cfg))
    (folder / file).unlink()
    chosen = plan(tmp_path, cfg)
    if not says:
        here.ready(cfg, chosen)
        return
    with pytest.raises(EasiError, match=f"has weights and {says}"):
        here.ready(cfg, chosen)
    (folder / "adapter_config.json").write_text("{}")  # the base's will do
    here.ready(cfg, chosen)


@pytest.mark.parametrize(("kind", "model"), [("qwen3_5", "qwen3_5"), ("gemma4", "gemma4")])
def test_types_of_lmms_eval_for_models_of_5_run_with_it(
    tmp_path: Path, kind: str, model: str
) -> None:
    folder = checkpoint(tmp_path, model_type=kind)
    cfg = RunConfig(backend="lmms-eval", model=model, model_args=f"pretrained={folder}")
    assert plan(tmp_path, cfg).profile == NEWER


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer_config.json"])
def test_a_processors_own_code_is_refused_on_5_and_left_out_without_trust(
    tmp_path: Path, backend: str, file: str
) -> None:
    folder = checkpoint(tmp_path, model_type="qwen3_5")
    (folder / file).write_text(json.dumps({"auto_map": {"AutoProcessor": "p.P"}}))
    assert plan(tmp_path, generic(folder, backend)).profile == NEWER
    with pytest.raises(EasiError, match=rf"own Python code \(auto_map in {file}\)") as refused:
        plan(tmp_path, generic(folder, backend, trust=True))
    assert "leave out --trust-remote-code" in refused.value.hint


def test_own_code_that_a_type_of_lmms_eval_trusts_is_refused_on_5(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, model_type="gemma4")
    (folder / "processor_config.json").write_text(json.dumps(OWN_CODE))
    arguments = f"pretrained={folder}"
    with pytest.raises(EasiError, match="auto_map in processor_config.json") as refused:
        plan(tmp_path, RunConfig(backend="lmms-eval", model="gemma4", model_args=arguments))
    assert "--model easi_vlm" in refused.value.hint
    distrusting = f"{arguments},trust_remote_code=False"
    cfg = RunConfig(backend="lmms-eval", model="gemma4", model_args=distrusting)
    assert plan(tmp_path, cfg).profile == NEWER


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_processors_own_code_stays_with_transformers_4(tmp_path: Path, backend: str) -> None:
    folder = checkpoint(tmp_path, model_type="qwen2_5_vl")
    (folder / "processor_config.json").write_text(json.dumps(OWN_CODE))
    assert plan(tmp_path, generic(folder, backend, trust=True)).profile == BASE


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "profile"), [("qwen3_5", NEWER), ("qwen2_5_vl", BASE)])
def test_own_code_without_the_class_that_loads_it_is_refused(
    tmp_path: Path, backend: str, kind: str, profile: str
) -> None:
    with pytest.raises(EasiError, match="auto_map in config.json") as refused:
        choose(tmp_path, backend, model_type=kind, **OTHER_CODE)
    assert "leave out --trust-remote-code" in refused.value.hint
    assert plan(tmp_path, generic(tmp_path / "Model-9", backend)).profile == profile


def test_own_code_that_a_type_of_lmms_eval_trusts_is_refused_if_it_has_no_model_for_it(
    tmp_path: Path,
) -> None:
    folder = checkpoint(tmp_path, model_type="gemma4", **OTHER_CODE)
    cfg = RunConfig(backend="lmms-eval", model="gemma4", model_args=f"pretrained={folder}")
    with pytest.raises(EasiError, match="auto_map in config.json") as refused:
        plan(tmp_path, cfg)
    assert "--model easi_vlm" in refused.value.hint


@pytest.mark.parametrize(
    ("backend", "kind", "works"),
    [
        ("vlmevalkit", "ernie4_5_moe_vl", "saved as model_type ernie4_5_vl_moe loads"),
        ("lmms-eval", "videollama3_qwen2", "--model videollama3"),
        ("lmms-eval", "nobody_has_this", "--base-url"),
    ],
)
def test_the_hint_for_a_type_that_neither_has_names_what_works(
    tmp_path: Path, backend: str, kind: str, works: str
) -> None:
    with pytest.raises(EasiError, match=f"model_type {kind}") as refused:
        choose(tmp_path, backend, model_type=kind, **OTHER_CODE)
    assert works in refused.value.hint


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("processor", "profile"), [("Glm46VProcessor", NEWER), ("Glm4vProcessor", BASE)]
)
def test_a_processor_that_only_5_has_chooses_5(
    tmp_path: Path, backend: str, processor: str, profile: str
) -> None:
    folder = checkpoint(tmp_path, model_type="glm4v", transformers_version="5.0.0")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({"processor_class": processor}))
    model = plan(tmp_path, generic(folder, backend))
    assert model.profile == profile
    said = f"only that has {processor} (processor_class in {file.name})"
    assert any(said in note for note in model.notes) is (profile == NEWER)


@pytest.mark.parametrize("name", ["google/gemma-4-31B-it", "Gemma4-31B-it"])
def test_an_entry_whose_class_transformers_5_refuses_is_run_with_the_generic_class(
    tmp_path: Path, name: str
) -> None:
    """VLMEvalKit's Gemma4 would fail at every answer; in vLLM it does not."""
    cached = tmp_path / "hf" / "hub" / "models--google--gemma-4-31B-it"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    checkpoint(cached / "snapshots", model_type="gemma4").rename(cached / "snapshots" / "abc")
    model = plan(tmp_path, RunConfig(model=name))
    assert (model.cls, model.path, model.profile) == ("EasiVLM", "google/gemma-4-31B-it", NEWER)
    assert model.needs_gpu and "parse_response" in model.why
    assert any("not with VLMEvalKit's entry Gemma4-31B-it" in note for note in model.notes)
    with pytest.raises(EasiError, match="model_path names another") as refused:
        plan(tmp_path, RunConfig(model=name, model_args=f"model_path={tmp_path}"))
    assert refused.value.hint == "give the checkpoint as --model"
    served = plan(tmp_path, RunConfig(model=name, model_args="use_vllm=True"))
    assert (served.cls, served.engine) == ("Gemma4", "vllm")
