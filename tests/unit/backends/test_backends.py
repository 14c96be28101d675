"""Each backend's class and arguments for a model, and its jobs; no package is imported."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.backends import make_backend, resolved
from easi_eval.backends.lmms_eval.backend import LmmsEval
from easi_eval.backends.lmms_eval.resolve import SERVED_TYPES
from easi_eval.backends.shared import catalog, launch_env, model_paths
from easi_eval.backends.shared.folder_digest import BLOCK, WHOLE, folder_revision
from easi_eval.backends.shared.lineage import lineage
from easi_eval.backends.shared.signature import signature
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.backends.vlmevalkit.families import FAMILIES, family_settings
from easi_eval.benchmarks import by_key
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.run.identity import identity

KIT, LMMS = BACKEND_FACTS["vlmevalkit"], BACKEND_FACTS["lmms-eval"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kit(tmp_path: Path) -> VLMEvalKit:
    return VLMEvalKit(HubSettings(hf_home=tmp_path / "hf", offline=True))


def lmms(tmp_path: Path) -> LmmsEval:
    return LmmsEval(HubSettings(hf_home=tmp_path / "hf", offline=True))


def lmms_cfg(model: str, model_args: str, **options: object) -> RunConfig:
    return RunConfig(model=model, model_args=model_args, backend="lmms-eval", **options)


def checkpoint(folder: Path, model_type: str = "qwen2_5_vl") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [2 * WHOLE], "data_offsets": [0, 8 * WHOLE]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + bytes(8 * WHOLE)
    )
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_at(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# ---- what lies in a folder -----------------------------------------------------------------------


def test_a_copied_folder_is_the_same_model(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "a")
    second = Path(
        shutil.copytree(first, tmp_path / "elsewhere" / "b", copy_function=shutil.copyfile)
    )
    for ignored in ("README.md", ".gitattributes", "optimizer.log"):
        (second / ignored).write_text("x")
    checkpoint(second / "checkpoint-500")
    assert folder_revision(second) == folder_revision(first)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: write_at(f / "model.safetensors", 300, b"x"), id="first block"),
        pytest.param(
            lambda f: write_at(f / "model.safetensors", (8 * WHOLE - BLOCK) * 3 // 7 + 200, b"x"),
            id="a block in the middle",
        ),
        pytest.param(
            lambda f: write_at(
                f / "model.safetensors", (f / "model.safetensors").stat().st_size - 1, b"x"
            ),
            id="last byte",
        ),
        pytest.param(lambda f: write_at(f / "model.safetensors", 20, b"x"), id="header"),
        pytest.param(
            lambda f: (f / "config.json").write_text('{"model_type": "qwen2_vl"}'), id="config"
        ),
        pytest.param(lambda f: (f / "chat_template.jinja").write_text(""), id="an added file"),
        pytest.param(
            lambda f: (f / "tokenizer.json").rename(f / "tokenizer2.json"), id="another name"
        ),
        pytest.param(lambda f: checkpoint(f / "vision_tower"), id="a part of the model"),
    ],
)
def test_weights_trained_again_are_another_model(tmp_path: Path, change: object) -> None:
    folder = checkpoint(tmp_path / "a")
    before = folder_revision(folder)
    change(folder)
    assert folder_revision(folder) != before


def test_a_damaged_header_is_no_reason_to_fail(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a")
    write_at(folder / "model.safetensors", 0, b"\xff" * 8)
    assert len(folder_revision(folder)) == 16


def test_the_revision_of_a_folder_is_in_the_identity_of_both_backends(tmp_path: Path) -> None:
    folder, adapter = (checkpoint(tmp_path / name, "internvl") for name in ("m", "lora"))
    runs = [
        (kit(tmp_path), RunConfig(model=str(folder))),
        (lmms(tmp_path), lmms_cfg("internvl_hf", f"pretrained={folder}")),
        (lmms(tmp_path), lmms_cfg("internvl_hf", f"pretrained=org/base,peft={folder}")),
        (lmms(tmp_path), lmms_cfg("internvl_hf", f"pretrained={adapter},peft={folder}")),
    ]
    before = [identity(made.name, "1", made.resolve(cfg), cfg) for made, cfg in runs]
    write_at(folder / "model.safetensors", 300, b"trained")
    after = [identity(made.name, "1", made.resolve(cfg), cfg) for made, cfg in runs]
    assert len({*before, *after}) == 2 * len(runs)


# ---- revisions of the hub ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "model_args", "expected"),
    [
        ("easi_vlm", "pretrained=a/b,revision=v2", [("a/b", "v2")]),
        ("easi_vlm", "pretrained=a/b", [("a/b", "main")]),
        ("internvl_hf", "pretrained=a/b,peft=c/d,revision=v2", [("c/d", "main"), ("a/b", "v2")]),
    ],
)
def test_lmms_weights_of_a_revision(
    tmp_path: Path, type_: str, model_args: str, expected: list[tuple[str, str]]
) -> None:
    model = lmms(tmp_path).resolve(lmms_cfg(type_, model_args))
    assert [(need.repo, need.revision) for need in lmms(tmp_path).weights(model)] == expected
    assert model.revision == ("v2" if "revision" in model_args else "")


def test_vlmevalkit_weights_of_a_revision(tmp_path: Path) -> None:
    checkpoint(tmp_path / "hf" / "hub" / "models--a--b" / "snapshots" / "1234567")
    model = kit(tmp_path).resolve(
        RunConfig(model="a/b", device="cpu", model_args="revision=1234567")
    )
    (need,) = kit(tmp_path).weights(model)
    assert (need.repo, need.revision, model.revision, model.arguments["revision"]) == (
        "a/b",
        "1234567",
        "1234567",
        "1234567",
    )


def test_a_class_that_would_drop_the_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EasiError, match="qwen2_5_vl takes no revision"):
        lmms(tmp_path).resolve(lmms_cfg("qwen2_5_vl", "pretrained=a/b,revision=v2"))
    with pytest.raises(EasiError, match="Qwen2VLChat takes no revision"):
        kit(tmp_path).resolve(RunConfig(model="Qwen2.5-VL-7B-Instruct", model_args="revision=v2"))
    assert (
        kit(tmp_path)
        .resolve(RunConfig(model="Moondream2", model_args="revision=2025-01-09"))
        .revision
        == "2025-01-09"
    )


# ---- settings of a family ------------------------------------------------------------------------

PIXELS = {"min_pixels": 1003520, "max_pixels": 12845056}


@pytest.mark.parametrize(
    ("folder", "model_type", "cls", "source", "arguments"),
    [
        ("InternVL3-8B", "internvl_chat", "InternVLChat", "InternVL3-8B", {"version": "V2.0"}),
        ("internvl3-8b-sft", "internvl_chat", "InternVLChat", "InternVL3-8B", {"version": "V2.0"}),
        (
            "InternVL2_5-8B-MPO-mine",
            "internvl_chat",
            "InternVLChat",
            "InternVL2_5-8B-MPO",
            {"version": "V2.0", "use_mpo_prompt": True},
        ),
        (
            "InternVL-Chat-V1-5-mine",
            "internvl_chat",
            "InternVLChat",
            "InternVL-Chat-V1-5",
            {"version": "V1.5"},
        ),
        (
            "SenseNova-SI-1.4-InternVL3-8B",
            "internvl_chat",
            "InternVLChat",
            "SenseNova-SI-1.3-InternVL3-8B",
            {"use_custom_prompt": False, "version": "V2.0"},
        ),
        ("x", "internvl_chat", "InternVLChat", "", {"version": "V2.0"}),
        (
            "Qwen2.5-VL-7B-Instruct",
            "qwen2_5_vl",
            "Qwen2VLChat",
            "Qwen2.5-VL-7B-Instruct",
            {**PIXELS, "use_custom_prompt": False},
        ),
        (
            "spatial-sft-step900",
            "qwen2_5_vl",
            "Qwen2VLChat",
            "",
            {**PIXELS, "use_custom_prompt": False},
        ),
        ("Qwen2-VL-2B-mine", "qwen2_vl", "Qwen2VLChat", "Qwen2-VL-2B-Instruct", PIXELS),
        (
            "Qwen3-VL-8B-Instruct",
            "qwen3_vl",
            "Qwen3VLChat",
            "SenseNova-SI-1.1-Qwen3-VL-8B",
            {"use_custom_prompt": False},
        ),
        ("SmolVLM2-500M-mine", "smolvlm", "SmolVLM2", "", {}),
        ("SmolVLM-mine", "idefics3", "SmolVLM", "", {}),
        ("llava-onevision-mine", "llava_onevision", "LLaVA_OneVision_HF", "", {}),
    ],
)
def test_a_folder_of_a_family_takes_the_nearest_entrys_settings(
    tmp_path: Path,
    folder: str,
    model_type: str,
    cls: str,
    source: str,
    arguments: Mapping[str, object],
) -> None:
    path = checkpoint(tmp_path / "models" / folder, model_type)
    model = kit(tmp_path).resolve(RunConfig(model=str(path)))
    assert (model.cls, model.path, model.entry, model.arguments) == (cls, str(path), "", arguments)
    assert f"settings of VLMEvalKit's entry {source}" in model.why


def test_the_users_arguments_win_over_the_familys(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine")
    model = kit(tmp_path).resolve(
        RunConfig(model=str(path), model_args="max_pixels=99,temperature=0.5")
    )
    assert model.arguments == {
        **PIXELS,
        "use_custom_prompt": False,
        "max_pixels": 99,
        "temperature": 0.5,
    }


def fork(root: Path, entries: str) -> Path:
    (root / "vlmeval").mkdir(parents=True)
    (root / "vlmeval" / "__init__.py").write_text("")
    (root / "vlmeval" / "config.py").write_text(
        f"from functools import partial\n"
        f"supported_VLM = {{{entries}, 'Other': partial(vlm.Other, model_path='o/Other')}}\n"
    )
    return root


def test_settings_for_another_engine_are_taken_last_and_without_it(tmp_path: Path) -> None:
    engine = (
        "'Qwen3-VL-8B': partial(vlm.Qwen3VLChat, model_path='Qwen/Qwen3-VL-8B', "
        "use_vllm=True, top_k=20)"
    )
    path = checkpoint(tmp_path / "Qwen3-VL-8B", "qwen3_vl")
    model = kit(tmp_path).resolve(
        RunConfig(model=str(path), backend_path=fork(tmp_path / "fork", engine))
    )
    assert model.arguments == {"top_k": 20}
    assert model.why.endswith("settings of VLMEvalKit's entry Qwen3-VL-8B, without its use_vllm")


def test_a_class_that_needs_settings_is_refused_where_no_entry_has_them(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "InternVL3-8B", "internvl_chat")
    cfg = RunConfig(
        model=str(path),
        backend_path=fork(tmp_path / "fork", "'A': partial(vlm.A, model_path='a/A')"),
    )
    with pytest.raises(EasiError, match="no entry with settings for InternVL3-8B") as error:
        kit(tmp_path).resolve(cfg)
    assert error.value.hint == "give them yourself: --model-args version=..."
    assert kit(tmp_path).resolve(replace(cfg, model_args="version=V2.0")).arguments == {
        "version": "V2.0"
    }


def test_every_family_has_entries_in_the_installed_registry() -> None:
    entries = catalog.vlmeval_entries(catalog.locate(KIT))
    for family in FAMILIES.values():
        found = family_settings(family, "anything", entries.values())
        assert found is not None
        assert {*family.required} <= {*found.arguments}
        assert not found.dropped or family.cls == "llama4"  # whose only entry is for vLLM


def test_an_entry_with_a_path_of_the_users(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine")
    model = kit(tmp_path).resolve(
        RunConfig(model="Qwen2.5-VL-7B-Instruct", model_args=f"model_path={path}")
    )
    assert (model.name, model.path, model.arguments["model_path"], model.entry) == (
        "mine",
        str(path),
        str(path),
        "Qwen2.5-VL-7B-Instruct",
    )
    assert kit(tmp_path).weights(model) == []


# ---- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "model_args", "device", "expected"),
    [
        (
            "qwen2_5_vl",
            "pretrained=a/b",
            "cpu",
            "cpu",
        ),  # its chat class inherits __init__ from the simple one
        ("qwen2_5_vl", "pretrained=a/b,device_map=auto", "cpu", "auto"),
        ("qwen2_5_vl", "pretrained=a/b", None, None),
        ("qwen2_5_vl", "pretrained=a/b", "cuda", None),
        ("easi_vlm", "pretrained=a/b", "cpu", None),  # takes --device
        ("minicpm_v", "pretrained=a/b", "cpu", None),
    ],
)
def test_the_cpu_is_said_to_classes_that_place_weights_themselves(
    tmp_path: Path,
    type_: str,
    model_args: str,
    device: str | None,
    expected: str | None,
) -> None:
    model = lmms(tmp_path).resolve(lmms_cfg(type_, model_args, device=device))
    assert model.arguments.get("device_map") == expected


@pytest.mark.parametrize(
    ("made", "cfg"),
    [
        (kit, RunConfig(model="org/none-of-its", device="cpu")),
        (lmms, lmms_cfg("easi_vlm", "pretrained=a/b", device="cpu")),
    ],
)
def test_workers_of_a_cpu_run_see_no_gpu(tmp_path: Path, made: object, cfg: RunConfig) -> None:
    for device, expected in (("cpu", "-1"), ("mps", None)):
        asked = replace(cfg, device=device)
        assert (
            job(made(tmp_path), asked, ModelChoice("m", "a/b", "C", "")).env.get(
                "CUDA_VISIBLE_DEVICES"
            )
            == expected
        )


def job(made: VLMEvalKit | LmmsEval, cfg: RunConfig, model: ModelChoice) -> object:
    return made.answer_job(
        cfg, model, [by_key("blink")], RunPaths.of(cfg.output_dir, made.name, "m", "0" * 64), 29500
    )


@pytest.mark.parametrize(
    ("made", "cfg"),
    [
        (kit, RunConfig(model="Qwen2.5-VL-7B-Instruct")),
        (kit, RunConfig(model="{folder}")),
        (lmms, lmms_cfg("qwen2_5_vl", "pretrained=a/b")),
        (lmms, lmms_cfg("easi_vlm", "pretrained=a/b")),
    ],
)
def test_cuda_is_the_default(tmp_path: Path, made: object, cfg: RunConfig) -> None:
    folder = checkpoint(tmp_path / "generic", "aya_vision")
    cfg = replace(cfg, model=cfg.model.format(folder=folder))
    said = replace(cfg, device="cuda")
    backend = made(tmp_path)
    model = backend.resolve(cfg)
    assert backend.resolve(said) == model
    assert identity(backend.name, "1", model, said) == identity(backend.name, "1", model, cfg)
    assert job(backend, said, model) == job(backend, cfg, model)
    assert "device" not in model.arguments


# ---- models behind a server ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "model_args", "name"),
    [
        (
            "openai",
            "model=Qwen/Qwen2.5-VL-7B-Instruct,base_url=http://x/v1",
            "Qwen/Qwen2.5-VL-7B-Instruct",
        ),
        ("openai_compatible", "model_version=org/served", "org/served"),  # an alias
        ("async_openai", "model_version=gpt-4o", "gpt-4o"),
        ("gemini", "model_version=gemini-2.5-pro", "gemini-2.5-pro"),
        ("claude", "modality=image", "claude"),
    ],
)
def test_a_served_model_needs_no_gpu_and_no_weights(
    tmp_path: Path, type_: str, model_args: str, name: str
) -> None:
    cfg = lmms_cfg(type_, model_args, nproc=2)
    model = lmms(tmp_path).resolve(cfg)
    assert (model.name, model.needs_gpu, model.revision) == (name, False, "")
    assert lmms(tmp_path).weights(model) == []
    assert (
        "torch.distributed.run" not in job(lmms(tmp_path), cfg, model).argv
    )  # one client, with its own concurrency
    assert model.notes == (
        "--nproc 2 has no effect: a served model has one client, with its own concurrency",
    )


@pytest.mark.parametrize(
    ("type_", "model_args", "repos"),
    [
        ("llava_onevision", "pretrained=a/b,model_name=org/template", ["a/b"]),
        ("vllm", "model=a/b", ["a/b"]),
        ("srt_api", "model_version=a/b", []),
    ],
)
def test_other_types_need_a_gpu_and_the_weights_they_name(
    tmp_path: Path, type_: str, model_args: str, repos: list[str]
) -> None:
    model = lmms(tmp_path).resolve(lmms_cfg(type_, model_args))
    assert model.needs_gpu
    assert [need.repo for need in lmms(tmp_path).weights(model)] == repos


def test_served_types_are_types_of_the_installed_package() -> None:
    known = catalog.lmms_models(catalog.locate(LMMS)).models
    assert {known[name].model_id for name in SERVED_TYPES} == SERVED_TYPES


# ---- what a class takes --------------------------------------------------------------------------

CLASSES = {
    "models/chat/a.py": (
        "from lmms_eval.models.simple.a import A as Simple\nclass A(Simple):\n    pass\n"
    ),
    "models/simple/a.py": (
        "from lmms_eval.api.model import lmms\n"
        "class A(lmms):\n"
        "    def __init__(self, pretrained, *, device_map='auto', **kwargs):\n"
        "        super().__init__()\n"
    ),
    "models/chat/b.py": (
        "from ..simple.a import A\n"
        "class B(A):\n"
        "    def __init__(self, extra=1, **rest):\n"
        "        super().__init__(**rest)\n"
    ),
    "models/chat/c.py": (
        "from ..simple.a import A\n"
        "class C(A):\n"
        "    def __init__(self, extra=1, **rest):\n"
        "        super().__init__('x')\n"
    ),
    "models/simple/d.py": (
        "from .a import A\n"
        "class D(A):\n"
        "    def __init__(self, alias=1, **rest):\n"
        "        super().__init__(**rest)\n"
    ),
    "models/chat/d.py": (
        "from .a import A\nfrom ..simple.d import D as Simple\nclass D(A, Simple):\n    pass\n"
    ),
    "api/model.py": (
        "import torch.nn\n"
        "class lmms(torch.nn.Module):\n"
        "    def __init__(self, never=1):\n"
        "        pass\n"
    ),
    "vlm/__init__.py": "from .deep import Real as Shown\n",
    "vlm/deep.py": (
        "class Real:\n"
        "    def __init__(self, model_path, revision=None):\n"
        "        pass\n"
        "class Loop(Loop):\n"
        "    pass\n"
    ),
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("models.chat.a.A", {"pretrained", "device_map"}),
        ("models.chat.b.B", {"extra", "pretrained", "device_map"}),
        ("models.chat.c.C", {"extra"}),
        (
            "models.chat.d.D",
            {"alias", "pretrained", "device_map"},
        ),  # as qwen3_5: both bases derive from the same class
        ("vlm.Shown", {"model_path", "revision"}),
        ("vlm.Missing", set()),
        ("vlm.deep.Loop", set()),
        ("nowhere.X", set()),
    ],
)
def test_parameters_of_a_class(tmp_path: Path, path: str, expected: set[str]) -> None:
    for name, text in {"__init__.py": "", **CLASSES}.items():
        (tmp_path / "lmms_eval" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lmms_eval" / name).write_text(text)
    assert signature(lineage(catalog.locate(LMMS, tmp_path), f"lmms_eval.{path}")).names == expected


def test_parameters_of_a_plug_ins_class() -> None:
    assert {"pretrained", "trust_remote_code"} < signature(
        lineage(catalog.locate(LMMS), "easi_lmms_eval.generic.EasiVLM")
    ).names


@pytest.mark.parametrize(
    ("type_", "passed"), [("llava_hf", True), ("internvl_hf", True), ("qwen2_5_vl", False)]
)
def test_remote_code_is_trusted_only_where_the_class_takes_it(
    tmp_path: Path, type_: str, passed: bool
) -> None:
    model = lmms(tmp_path).resolve(lmms_cfg(type_, "pretrained=a/b", trust_remote_code=True))
    assert model.arguments.get("trust_remote_code") == ("True" if passed else None)
    assert model.notes == (
        ()
        if passed
        else ("--trust-remote-code has no effect: lmms-eval's type qwen2_5_vl does not take it",)
    )


# ---- environment ---------------------------------------------------------------------------------


def test_older_cache_variables_are_removed(tmp_path: Path) -> None:
    env = launch_env.environment(HubSettings(hf_home=tmp_path), catalog.locate(KIT))
    assert {
        env[name]
        for name in (
            "TRANSFORMERS_CACHE",
            "PYTORCH_TRANSFORMERS_CACHE",
            "PYTORCH_PRETRAINED_BERT_CACHE",
        )
    } == {""}


def test_split_think_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit(tmp_path).check(RunConfig(model="m"))
    monkeypatch.setenv("SPLIT_THINK", "1")
    with pytest.raises(EasiError, match="SPLIT_THINK is set") as error:
        kit(tmp_path).check(RunConfig(model="m"))
    assert error.value.hint == "unset SPLIT_THINK"


# ---- arguments after -- ------------------------------------------------------------------------


def refused(backend: str, *words: str, **options: object) -> str:
    model = {
        "vlmevalkit": {"model": "GPT4o"},
        "lmms-eval": {"model": "qwen2_5_vl", "model_args": "pretrained=org/model"},
    }[backend]
    cfg = RunConfig(backend=backend, backend_args=words, **model, **options)
    with pytest.raises(EasiError) as error:
        make_backend(backend, HubSettings.from_env({})).check(cfg)
    return f"{error.value.message} | {error.value.hint}"


@pytest.mark.parametrize(
    ("backend", "words", "said"),
    [
        (
            "lmms-eval",
            ("--gen_kwarg", "max_new_tokens=8", "--nonsense"),
            "lmms-eval knows no --nonsense",
        ),
        (
            "lmms-eval",
            ("--gen_kwrags", "max_new_tokens=8"),
            "--gen_kwrags (did you mean --gen_kwargs?)",
        ),
        ("lmms-eval", ("stray",), "knows no stray"),
        ("lmms-eval", ("--tasks", "blink"), "use --benchmarks"),
        ("lmms-eval", ("--limit=3",), "--limit=3 is set by this program | use --limit"),
        ("lmms-eval", ("--wandb_args", "project=x"), "add --plain"),
        ("lmms-eval", ("--use_cache", "x"), "never asked twice"),
        ("lmms-eval", ("--hf_hub_log_args", "a=b"), "add --plain"),
        ("lmms-eval", ("--predict_only",), "every benchmark is scored"),
        ("lmms-eval", ("--num_fewshot", "two"), "invalid int value"),
        ("vlmevalkit", ("--base-url", "http://h/v1"), "add --plain"),
        ("vlmevalkit", ("--work-dir", "x"), "use --output-dir"),
        ("vlmevalkit", ("--gen_kwargs", "a=b"), "VLMEvalKit knows no --gen_kwargs"),
        ("vlmevalkit", ("--mode", "eval"), "is set by this program"),
    ],
)
def test_words_for_the_backend_that_would_fail_or_do_nothing_are_refused(
    backend: str, words: tuple[str, ...], said: str
) -> None:
    assert said in refused(backend, *words)


@pytest.mark.parametrize(
    ("backend", "words", "instead"),
    [
        ("vlmevalkit", ("--api-nproc", "8"), "num_concurrent=N"),
        ("vlmevalkit", ("--max-tokens=8",), "max_tokens=N"),
        ("vlmevalkit", ("--key", "EMPTY"), "OPENAI_API_KEY"),
        ("lmms-eval", ("--batch_size", "8"), "num_concurrent=N"),
        ("lmms-eval", ("-b", "8"), "num_concurrent=N"),
        ("lmms-eval", ("--system_instruction", "be brief"), "system_prompt=TEXT"),
        ("lmms-eval", ("--apply_chat_template",), "the server's own options"),
        ("lmms-eval", ("--force_simple",), "async_openai"),
    ],
)
def test_words_that_contradict_the_client_of_base_url_are_refused_before_a_server_is_asked(
    backend: str, words: tuple[str, ...], instead: str
) -> None:
    cfg = RunConfig("m", backend, base_url="http://192.0.2.1:8000", backend_args=words)
    with pytest.raises(EasiError, match=f"after --: {words[0]} is set by this") as told:
        make_backend(backend, HubSettings()).check(cfg)
    assert instead in told.value.hint


@pytest.mark.parametrize(
    ("backend", "words", "options"),
    [
        (
            "lmms-eval",
            (
                "--gen_kwargs",
                "max_new_tokens=8",
                "--batch_size",
                "4",
                "--verbosity=DEBUG",
                "--log_samples",
                "--seed",
                "-1",
            ),
            {},
        ),
        ("lmms-eval", ("--wandb_args", "project=x"), {"plain": True}),
        (
            "vlmevalkit",
            ("--retry", "3", "--api-nproc=8", "--judge-args", '{"a": 1}', "--reuse"),
            {},
        ),
        ("vlmevalkit", ("--base-url", "http://h/v1"), {"plain": True}),
    ],
)
def test_words_that_the_backend_obeys_are_taken(
    backend: str, words: tuple[str, ...], options: dict[str, object]
) -> None:
    model = {
        "vlmevalkit": {"model": "GPT4o"},
        "lmms-eval": {"model": "qwen2_5_vl", "model_args": "pretrained=org/model"},
    }[backend]
    make_backend(backend, HubSettings.from_env({})).check(
        RunConfig(backend=backend, backend_args=words, **model, **options)
    )


def test_every_option_of_the_backends_own_command_lines_is_read() -> None:
    """As its own ``--help`` would list them."""
    read = set(make_backend("lmms-eval", HubSettings.from_env({})).own_options())
    assert {
        "--gen_kwargs",
        "-c",
        "--use_cache",
        "--process-docs-parallel",
        "--process_docs_parallel",
        "-n",
        "--repeats",
        "--std-b",
    } <= read
    assert {"--data", "--judge-args", "--base-url", "--api-mode", "--debug"} <= set(
        make_backend("vlmevalkit", HubSettings.from_env({})).own_options()
    )


@pytest.mark.parametrize(
    ("backend", "words", "kept"),
    [
        (
            "lmms-eval",
            ("--verbosity", "DEBUG", "--gen_kwargs", "a=b", "--log_samples", "--timezone=UTC"),
            ["--gen_kwargs", "a=b"],
        ),
        ("vlmevalkit", ("--reuse", "--retry", "3", "--judge-timeout", "5"), ["--retry", "3"]),
        ("vlmevalkit", (), []),
    ],
)
def test_what_changes_no_answer_is_outside_the_identity(
    backend: str, words: tuple[str, ...], kept: list[str]
) -> None:
    assert BACKEND_FACTS[backend].answer_arguments(words) == kept


# ---- guesses that miss ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            {"model": "qwen3_vl"},
            "--backend lmms-eval --model qwen3_vl --model-args pretrained=org/model",
        ),
        (
            {
                "backend": "lmms-eval",
                "model": "Qwen2.5-VL-7B-Instruct",
                "model_args": "pretrained=a/b",
            },
            "a name of VLMEvalKit's registry",
        ),
        (
            {"backend": "lmms-eval", "model": "org/model", "model_args": "max_pixels=3"},
            "--model-args pretrained=org/model",
        ),
        (
            {"model": "Qwen2.5-VL-7B-Instruct", "model_args": "pretrained=org/model"},
            "write --model org/model",
        ),
    ],
)
def test_a_name_of_the_other_backend_is_told(options: dict[str, str], hint: str) -> None:
    cfg, hub = RunConfig(**options), HubSettings.from_env({})
    with pytest.raises(EasiError) as error:
        resolved(cfg, make_backend(cfg.backend, hub), hub)
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("vlmevalkit", {"model": "Qwen2.5-VL-7B-Instruct", "model_args": "max_new_tokens=abc"}),
        ("lmms-eval", {"model": "qwen2_5_vl", "model_args": "pretrained=a/b,max_pixels=many"}),
    ],
)
def test_a_text_where_the_class_has_a_number_is_refused(
    tmp_path: Path, backend: str, options: dict[str, str]
) -> None:
    with pytest.raises(EasiError, match="is not a number"):
        make_backend(backend, HubSettings(hf_home=tmp_path, offline=True)).resolve(
            RunConfig(backend=backend, **options)
        )


@pytest.mark.parametrize(
    ("files", "what", "hint"),
    [
        (
            [
                "config.json",
                "zero_to_fp32.py",
                "latest",
                "global_step500/mp_rank_00_model_states.pt",
            ],
            "DeepSpeed",
            "zero_to_fp32.py . merged",
        ),
        (["pytorch_model_fsdp_0/.metadata", "config.json"], "FSDP", "merge-weights"),
        (
            ["checkpoint-500/config.json", "checkpoint-1000/config.json", "trainer_state.json"],
            "checkpoints of a training run",
            "checkpoint-1000",
        ),
        (["model-q4.gguf"], "GGUF", "transformers"),
    ],
)
def test_a_folder_that_is_no_model_is_told_for_what_it_is(
    tmp_path: Path, files: list[str], what: str, hint: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(EasiError) as error:
        model_paths.check_folder(tmp_path)
    assert what in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    "files",
    [
        ["config.json", "model.safetensors", "zero_to_fp32.py", "global_step5/x.pt"],
        ["config.json", "model.safetensors", "optimizer_0/.metadata"],
        ["adapter_config.json", "adapter_model.safetensors", "global_step5/x.pt"],
        ["config.json", "checkpoint-5/config.json", "pytorch_model.bin"],
    ],
)
def test_a_folder_with_a_model_beside_what_training_left_is_taken(
    tmp_path: Path, files: list[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    model_paths.check_folder(tmp_path)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_path_with_commas_is_taken_in_quotes(tmp_path: Path, quote: str) -> None:
    folder = tmp_path / "lr=1e-5,bs=8" / "checkpoint-500"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    backend = LmmsEval(HubSettings(hf_home=tmp_path, offline=True))
    cfg = RunConfig(
        backend="lmms-eval",
        model="qwen2_5_vl",
        model_args=f"pretrained={quote}{folder}{quote},max_pixels=9",
    )
    model = backend.resolve(cfg)
    assert (model.path, model.arguments["pretrained"]) == (str(folder), str(folder))
    job = backend.answer_job(cfg, model, [by_key("blink")], RunPaths(tmp_path / "run"), 1)
    assert f"pretrained='{folder}',max_pixels=9" in job.argv
    with pytest.raises(EasiError, match="commas separate the arguments") as error:
        backend.resolve(replace(cfg, model_args=f"pretrained={folder},max_pixels=9"))
    assert f"pretrained='{folder}'" in error.value.hint
