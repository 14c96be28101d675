"""Which class of VLMEvalKit runs a model, with which arguments, and why.

Tested on the installed package, local hubs and small forks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from easi_eval.backends.shared import catalog
from easi_eval.backends.vlmevalkit.aliases import easi_models
from easi_eval.backends.vlmevalkit.api_keys import KEYS, OF_GPT4V, missing_keys
from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
from easi_eval.benchmarks import ALL_KEYS, by_key
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.errors import EasiError
from easi_eval.core.model import ModelChoice
from easi_eval.core.profiles import BASE, image_text_types
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.run.identity import identity
from hub_faults import Faults, FaultyHub

PIXELS = {"min_pixels": 1003520, "max_pixels": 12845056}
QWEN = {**PIXELS, "use_custom_prompt": False}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the names of the installed package are kept.

    Reading them again for every test would take half of the time.
    """
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_places(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in (
        {key for keys in KEYS.values() for key in keys}
        | {key for _, key in OF_GPT4V}
        | {"OPENAI_API_KEY", "GOOGLE_API_KEY"}
    ):
        monkeypatch.delenv(name, raising=False)


def offline(tmp_path: Path) -> VLMEvalKit:
    return VLMEvalKit(HubSettings(hf_home=tmp_path / "hf", offline=True), tmp_path / "vlm")


def resolve(tmp_path: Path, model: str | Path, **options: object) -> ModelChoice:
    return offline(tmp_path).resolve(RunConfig(model=str(model), **options))


def refusal(tmp_path: Path, model: str | Path, **options: object) -> EasiError:
    with pytest.raises(EasiError) as error:
        resolve(tmp_path, model, **options)
    return error.value


def unready(tmp_path: Path, model: str, **options: object) -> EasiError:
    """Why a known model cannot answer here; what it has answered can still be scored."""
    kit, cfg = offline(tmp_path), RunConfig(model=model, **options)
    choice = kit.resolve(cfg)
    with pytest.raises(EasiError) as error:
        kit.ready(cfg, choice)
    return error.value


def folder(root: Path, name: str, **config: object) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "config.json").write_text(json.dumps(config))
    return root / name


# ---- the five families: hub id, folder, name -----------------------------------------------------

FAMILIES = [
    (
        "Qwen2.5-VL-7B-mine",
        "qwen2_5_vl",
        "Qwen2VLChat",
        QWEN,
        "Qwen2.5-VL-7B-Instruct",
        "Qwen/Qwen2.5-VL-7B-Instruct",
    ),
    (
        "Qwen3-VL-8B-mine",
        "qwen3_vl",
        "Qwen3VLChat",
        {"use_custom_prompt": False},
        "SenseNova-SI-1.1-Qwen3-VL-8B",
        "sensenova/SenseNova-SI-1.1-Qwen3-VL-8B",
    ),
    (
        "InternVL3-8B-mine",
        "internvl_chat",
        "InternVLChat",
        {"version": "V2.0"},
        "InternVL3-8B",
        "OpenGVLab/InternVL3-8B",
    ),
    (
        "llava-onevision-mine",
        "llava_onevision",
        "LLaVA_OneVision_HF",
        {},
        "llava-onevision-qwen2-7b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    ),
    (
        "SmolVLM2-2.2B-mine",
        "smolvlm",
        "SmolVLM2",
        {},
        "SmolVLM2",
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    ),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    root = tmp_path_factory.mktemp("hub")
    for name, model_type, *_ in FAMILIES:
        folder(root / "models" / "me", name, model_type=model_type)
    folder(root / "models" / "me", "Aya", model_type="aya_vision")
    with FaultyHub(root) as running:
        yield running


@pytest.fixture
def online(served: FaultyHub, tmp_path: Path) -> VLMEvalKit:
    served.set_faults(Faults())
    return VLMEvalKit(
        HubSettings(endpoint=served.endpoint, hf_home=tmp_path / "hf"), tmp_path / "vlm"
    )


@pytest.mark.parametrize(("name", "model_type", "cls", "arguments", "entry", "hub_id"), FAMILIES)
def test_a_family_by_hub_id_folder_and_names(
    online: VLMEvalKit,
    tmp_path: Path,
    name: str,
    model_type: str,
    cls: str,
    arguments: Mapping[str, object],
    entry: str,
    hub_id: str,
) -> None:
    by_id = online.resolve(RunConfig(model=f"me/{name}"))
    assert (by_id.name, by_id.path, by_id.cls, by_id.entry, by_id.arguments) == (
        f"me/{name}",
        f"me/{name}",
        cls,
        "",
        arguments,
    )
    assert by_id.why.startswith(
        f"its config.json says model_type {model_type}; settings of VLMEvalKit's entry "
    )
    path = folder(tmp_path, name, model_type=model_type)
    by_path = online.resolve(RunConfig(model=str(path)))
    assert (by_path.name, by_path.path, by_path.cls, by_path.arguments, by_path.why) == (
        name,
        str(path),
        cls,
        arguments,
        by_id.why,
    )
    by_name, by_entrys_id = (online.resolve(RunConfig(model=wanted)) for wanted in (entry, hub_id))
    assert (by_name.path, by_name.cls, by_name.entry, by_name.arguments) == (
        hub_id,
        cls,
        entry,
        arguments,
    )
    assert by_name.why == "it is a name of VLMEvalKit's registry"
    assert by_entrys_id.why.startswith("VLMEvalKit's entry for this hub id")
    assert (by_entrys_id.path, by_entrys_id.cls, by_entrys_id.entry, by_entrys_id.arguments) == (
        hub_id,
        cls,
        entry,
        arguments,
    )
    assert identity("vlmevalkit", "1", by_name, RunConfig(model="x")) == identity(
        "vlmevalkit", "1", by_entrys_id, RunConfig(model="x")
    )
    assert {model.needs_gpu for model in (by_id, by_path, by_name, by_entrys_id)} == {True}


def test_no_backend_is_imported_to_decide(tmp_path: Path) -> None:
    path = folder(tmp_path, "mine", model_type="qwen2_5_vl")
    code = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from easi_eval.backends.vlmevalkit.backend import VLMEvalKit
        from easi_eval.config import RunConfig
        from easi_eval.data.needs import HubSettings
        kit = VLMEvalKit(HubSettings(hf_home=Path({str(tmp_path)!r}), offline=True))
        assert kit.resolve(RunConfig(model={str(path)!r})).cls == "Qwen2VLChat"
        print(sorted({{"torch", "transformers", "vlmeval", "pandas"}} & set(sys.modules)))
    """)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "[]\n", ran.stderr


@pytest.mark.parametrize(
    ("model_type", "cls"),
    [
        ("gemma3", "Gemma3"),
        ("paligemma", "PaliGemma"),
        ("mllama", "llama_vision"),
        ("llama4", "llama4"),
        ("idefics2", "IDEFICS2"),
        ("qwen3_vl_moe", "Qwen3VLChat"),
        ("lfm2_vl", "LFM2VL"),
        ("molmo", "molmo"),
        ("phi4mm", "Phi4Multimodal"),
        ("kimi_vl", "KimiVL"),
        ("chameleon", "Chameleon"),
        ("kosmos-2", "Kosmos2"),
    ],
)
def test_a_type_with_one_class_never_falls_to_the_generic_one(
    tmp_path: Path, model_type: str, cls: str
) -> None:
    model = resolve(
        tmp_path,
        folder(tmp_path, "mine", model_type=model_type, auto_map={"AutoModelForCausalLM": "m.M"}),
    )
    assert (model.cls, model.needs_gpu) == (cls, True)
    assert "use_vllm" not in model.arguments


# ---- the hub -------------------------------------------------------------------------------------


def test_the_config_is_read_at_the_asked_revision(online: VLMEvalKit, served: FaultyHub) -> None:
    commit = served.repo("models", "me/Aya").commit
    before = len(served.served())
    model = online.resolve(RunConfig(model="me/Aya", model_args=f"revision={commit}"))
    assert (model.cls, model.revision, model.arguments) == ("EasiVLM", commit, {"revision": commit})
    asked = [request.path for request in served.served()[before:]]
    assert asked and not [path for path in asked if "main" in path]
    with pytest.raises(EasiError, match="v9"):
        online.resolve(RunConfig(model="me/Aya", model_args="revision=v9"))
    again = VLMEvalKit(HubSettings(hf_home=online.hub.hf_home, offline=True))
    assert (
        again.resolve(RunConfig(model="me/Aya", model_args=f"revision={commit}")).cls == "EasiVLM"
    )


@pytest.mark.parametrize("how", ["variable", "stored login"])
def test_a_gated_model_with_and_without_a_token(
    online: VLMEvalKit, served: FaultyHub, tmp_path: Path, how: str
) -> None:
    served.set_faults(Faults(token="hf_mine"))
    cfg = RunConfig(model="me/Qwen2.5-VL-7B-mine")
    with pytest.raises(EasiError) as error:
        online.resolve(cfg)
    assert "HF_TOKEN" in error.value.message + error.value.hint
    home = tmp_path / "home"
    home.mkdir()
    environ = {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(home)}
    if how == "variable":
        environ["HF_TOKEN"] = "hf_mine"
    else:
        (home / "token").write_text("hf_mine\n")
    assert VLMEvalKit(HubSettings.from_env(environ)).resolve(cfg).cls == "Qwen2VLChat"


# ---- EASI's own list -----------------------------------------------------------------------------

# The supported models of EASI v0.2.2: name, what VLMEvalKit runs it as, checkpoint.
EASI_LIST = [
    *(
        (f"SenseNova-SI-{name}", f"SenseNova-SI-{name}", f"sensenova/SenseNova-SI-{name}")
        for name in (
            "InternVL3-2B",
            "InternVL3-8B",
            "1.1-Qwen2.5-VL-3B",
            "1.1-Qwen2.5-VL-7B",
            "1.1-Qwen3-VL-8B",
            "1.1-InternVL3-2B",
            "1.1-InternVL3-8B",
            "1.1-BAGEL-7B-MoT",
            "1.2-InternVL3-8B",
            "1.3-InternVL3-8B",
        )
    ),
    *(
        (f"SenseNova-SI-{name}", "", f"sensenova/SenseNova-SI-{name}")
        for name in ("1.4-InternVL3-8B", "1.5-InternVL3-8B", "1.3-Qwen3-VL-8B")
    ),
    *(
        (f"MindCube-3B-{name}", f"MindCube-Qwen2.5VL-{name}", f"MLL-Lab/MindCube-Qwen2.5VL-{name}")
        for name in ("RawQA-SFT", "Aug-CGMap-FFR-Out-SFT", "Plain-CGMap-FFR-Out-SFT")
    ),
    ("SpatialLadder-3B", "SpatialLadder-3B", "hongxingli/SpatialLadder-3B"),
    ("SpatialMLLM-4B", "Spatial-MLLM-subset-sft", "Diankun/Spatial-MLLM-subset-sft"),
    ("SpaceR-7B", "SpaceR-SFT-7B", "RUBBISHLIKE/SpaceR-SFT-7B"),
    *(
        (f"VST-{size}-SFT", f"VST-{size}-SFT", f"rayruiyang/VST-{size}-SFT")
        for size in ("3B", "7B")
    ),
    *(
        (f"Cambrian-S-{size}", f"cambrian-s-{size.lower()}", f"nyu-visionx/Cambrian-S-{size}")
        for size in ("0.5B", "1.5B", "3B", "7B")
    ),
    ("VLM-3R", "VLM-3R", "Journey9ni/vlm-3r-llava-qwen2-lora"),
    ("BAGEL-7B-MoT", "BAGEL-7B-MoT", "ByteDance-Seed/BAGEL-7B-MoT"),
]


@pytest.mark.parametrize(("name", "entry", "path"), EASI_LIST)
def test_every_model_of_easis_list(tmp_path: Path, name: str, entry: str, path: str) -> None:
    model, by_id = (resolve(tmp_path, wanted) for wanted in (name, path))
    assert (model.entry, model.path, model.name) == (entry, path, path)
    assert (by_id.entry, by_id.path, by_id.cls, by_id.arguments) == (
        entry,
        path,
        model.cls,
        model.arguments,
    )
    if name == entry:
        assert model.why == "it is a name of VLMEvalKit's registry"
    elif entry:
        assert model.why == f"EASI's name for VLMEvalKit's entry {entry}"
    else:
        assert model.why.startswith(
            "in EASI's list; this VLMEvalKit has no entry for it, so the settings of SenseNova-"
        )


def test_what_the_release_lacks_is_run_like_its_family(tmp_path: Path) -> None:
    intern, qwen = (
        resolve(tmp_path, "SenseNova-SI-1.5-InternVL3-8B"),
        resolve(tmp_path, "SenseNova-SI-1.3-Qwen3-VL-8B"),
    )
    for made, like in (
        (intern, "SenseNova-SI-1.3-InternVL3-8B"),
        (qwen, "SenseNova-SI-1.1-Qwen3-VL-8B"),
    ):
        theirs = resolve(tmp_path, like)
        assert (made.cls, made.arguments) == (theirs.cls, theirs.arguments)
        assert f"settings of {like}" in made.why
    assert any("RUBBISHLIKE/SpaceR" in note for note in resolve(tmp_path, "SpaceR-7B").notes)


def test_a_fork_that_has_the_entry_uses_its_own(tmp_path: Path) -> None:
    made = fork(
        tmp_path,
        "'SenseNova-SI-1.5-InternVL3-8B': partial(vlm.C, "
        "model_path='sensenova/SenseNova-SI-1.5-InternVL3-8B', x=1)",
    )
    model = resolve(tmp_path, "SenseNova-SI-1.5-InternVL3-8B", backend_path=made)
    assert (model.entry, model.arguments) == ("SenseNova-SI-1.5-InternVL3-8B", {"x": 1})
    assert "has none" in refusal(tmp_path, "SpaceR-7B", backend_path=made).message
    assert (
        "config.json of sensenova/SenseNova-SI-1.4-InternVL3-8B"
        in refusal(tmp_path, "sensenova/SenseNova-SI-1.4-InternVL3-8B", backend_path=made).message
    )


def test_the_table_holds_nothing_the_registry_has() -> None:
    entries = catalog.vlmeval_entries(catalog.locate(BACKEND_FACTS["vlmevalkit"]))
    assert len(easi_models()) == len({model.name for model in easi_models()}) == 12
    for model in easi_models():
        assert model.name not in entries
        assert (model.entry or model.like) in entries and bool(model.entry) != bool(
            model.like and model.path
        )


# ---- several, none, and what is no model ---------------------------------------------------------


def fork(tmp_path: Path, entries: str, classes: str = "") -> Path:
    """A checkout of VLMEvalKit with this registry and, in ``vlm/__init__.py``, these classes."""
    root = tmp_path / "fork" / "vlmeval"
    (root / "vlm").mkdir(parents=True, exist_ok=True)
    (root / "__init__.py").write_text("")
    (root / "vlm" / "__init__.py").write_text(
        "class BaseModel:\n    pass\n" + textwrap.dedent(classes)
    )
    (root / "config.py").write_text(
        "from functools import partial\n"
        f"supported_VLM = {{{entries}, 'Other': partial(vlm.Other, model_path='o/Other')}}\n"
    )
    return root.parent


def test_of_several_entries_the_one_named_like_the_hub_id(tmp_path: Path) -> None:
    several = (
        "'A-fast': partial(vlm.C, model_path='o/A', n=1), 'C': partial(vlm.C, model_path='o/C', "
        "n=3), 'c': partial(vlm.C, model_path='o/C'), 'a': partial(vlm.C, model_path='o/A', n=2), "
        "'B1': partial(vlm.C, model_path='o/B'), 'B2': partial(vlm.C, model_path='o/B')"
    )
    made = fork(tmp_path, several)
    model = resolve(tmp_path, "o/A", backend_path=made)
    assert (model.entry, model.arguments, model.why) == (
        "a",
        {"n": 2},
        "VLMEvalKit's entry for this hub id (others: A-fast)",
    )
    assert resolve(tmp_path, "o/C", backend_path=made).arguments == {"n": 3}
    error = refusal(tmp_path, "o/B", backend_path=made)
    assert error.message == "VLMEvalKit has 2 entries for o/B"
    assert error.hint == "name one: B1, B2"


def test_a_name_of_nothing_is_refused_with_the_nearest(tmp_path: Path) -> None:
    error = refusal(tmp_path, "Qwen2.5-VL-7B-Instuct")
    assert (
        "neither a name of VLMEvalKit's registry, nor your own class, a folder or a hub id"
        in error.message
    )
    assert "Qwen2.5-VL-7B-Instruct" in error.hint


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("./models/typo", "there is no such folder"),
        ("./typo", "there is no such folder"),
        ("/nowhere/Qwen2.5-VL-7B", "there is no such folder"),
        ("~/nothing-there/model", "there is no such folder"),
        ("a/b/c", "nor your own class, a folder or a hub id"),
        ("org/Qwen2.5-VL-7B/", "nor your own class, a folder or a hub id"),
    ],
)
def test_a_mistyped_folder_or_hub_id_is_no_model_for_the_generic_class(
    tmp_path: Path, model: str, said: str, device: str
) -> None:
    assert said in refusal(tmp_path, model, device=device).message


def test_a_mistyped_checkpoint_of_an_entry_is_refused(tmp_path: Path) -> None:
    error = refusal(
        tmp_path, "Qwen2.5-VL-7B-Instruct", model_args="model_path=/nowhere/Qwen2.5-VL-7B"
    )
    assert (
        error.message == "--model-args model_path=/nowhere/Qwen2.5-VL-7B: there is no such folder"
    )


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "aya_vision"])
def test_a_second_checkpoint_among_the_arguments_is_refused(
    tmp_path: Path, model_type: str
) -> None:
    error = refusal(
        tmp_path, folder(tmp_path, "m", model_type=model_type), model_args="model_path=/elsewhere"
    )
    assert "model_path names another checkpoint than --model" in error.message


@pytest.mark.parametrize(
    ("model", "args", "what", "hint"),
    [
        # it would swallow it
        (
            "Qwen2.5-VL-7B-Instruct",
            "max_pixls=3",
            "max_pixls: Qwen2VLChat takes no such argument",
            "max_pixels",
        ),
        (
            "InternVL3-8B",
            "temprature=1",
            "temprature: InternVLChat takes no such argument",
            "temperature",
        ),
        (
            "cambrian-s-7b",
            "nothing_like_it=1",
            "nothing_like_it: CambrianS takes no such argument",
            "it takes ",
        ),
    ],
)
def test_a_misspelt_argument_is_refused(
    tmp_path: Path, model: str, args: str, what: str, hint: str
) -> None:
    error = refusal(tmp_path, model, model_args=args)
    assert what in error.message and hint in error.hint


@pytest.mark.parametrize(
    ("model", "args"),
    [
        ("InternVL3-8B", "top_n=2"),
        ("Qwen2.5-VL-7B-Instruct", "use_vllm=False,fps=1,nframe=8"),
        ("InternVL3-8B", "temperature=1"),
    ],
)
def test_arguments_that_a_class_hands_on_are_left_alone(
    tmp_path: Path, model: str, args: str
) -> None:
    assert set(RunConfig(model=model, model_args=args).model_arguments) <= set(
        resolve(tmp_path, model, model_args=args).arguments
    )


def test_an_argument_that_a_class_may_not_use_is_said(tmp_path: Path) -> None:
    said = "Qwen2VLChat accepts any argument; it may ignore torch_dtype"
    assert (
        said
        in resolve(tmp_path, "Qwen2.5-VL-7B-Instruct", model_args="torch_dtype=float16,fps=1").notes
    )
    assert not any(
        "accepts any argument" in note
        for note in resolve(
            tmp_path, "Qwen2.5-VL-7B-Instruct", model_args="fps=1,max_pixels=9"
        ).notes
    )


# ---- engines -------------------------------------------------------------------------------------


def test_an_entry_that_needs_vllm_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    for wanted in ("Qwen/Qwen3-VL-8B-Instruct", "Qwen3-VL-8B-Instruct"):
        error = unready(tmp_path, wanted, nproc=8)
        assert error.message.startswith(
            "VLMEvalKit's entry Qwen3-VL-8B-Instruct runs on vllm with temperature=0.7, "
        )
        assert error.message.endswith("and it is not installed")
        assert error.hint.startswith("bash scripts/setup.sh --vllm installs it; or on transformers")
        assert f"--model {wanted} --model-args use_vllm=False --nproc 8" in error.hint


def test_the_explicit_override_is_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = RunConfig(model="Qwen/Qwen3-VL-8B-Instruct", model_args="use_vllm=False")
    override = offline(tmp_path).resolve(without)
    offline(tmp_path).ready(without, override)
    assert (override.arguments["use_vllm"], override.arguments["temperature"]) == (False, 0.7)
    assert not any("vllm answers" in note for note in override.notes)
    (tmp_path / "site" / "vllm").mkdir(parents=True)
    (tmp_path / "site" / "vllm" / "__init__.py").write_text(
        "raise ImportError('never imported to decide')"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plain = RunConfig(model="Qwen/Qwen3-VL-8B-Instruct")
    engine = offline(tmp_path).resolve(plain)
    offline(tmp_path).ready(plain, engine)
    assert engine.arguments["use_vllm"] is True and "vllm answers, not transformers" in engine.notes
    assert identity("vlmevalkit", "1", override, without) != identity(
        "vlmevalkit", "1", engine, plain
    )


def test_engines_of_the_whole_registry(tmp_path: Path) -> None:
    """20 entries ask for vLLM and 12 for lmdeploy, of which one only asks a server.

    Some classes support nothing else.
    """
    entries = catalog.vlmeval_entries(catalog.locate(BACKEND_FACTS["vlmevalkit"]))
    asking = {
        package: [e for e in entries.values() if e.kwargs.get(flag)]
        for flag, package in (("use_vllm", "vllm"), ("use_lmdeploy", "lmdeploy"))
    }
    assert [len(found) for found in asking.values()] == [20, 12]
    for package, found in asking.items():
        for entry in found:
            error = unready(tmp_path, entry.name)
            assert ("LMDEPLOY_API_KEY" if entry.api else f"runs on {package}") in error.message
    for name, cls in (("Cosmos-Reason1-7B", "Cosmos"), ("Ovis2.5-9B", "Ovis2_5")):
        for args in ("", "use_vllm=False"):
            error = unready(tmp_path, name, model_args=args)
            assert (
                error.message == f"VLMEvalKit's {cls} runs on vllm only, which is not installed"
                and "--model-args" not in error.hint
            )


# ---- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "args", "line"),
    [
        (
            "Qwen2.5-VL-7B-Instruct",
            "",
            "sampling: max_new_tokens=2048, top_p=0.001, top_k=1, temperature=0.01, "
            "repetition_penalty=1.0, do_sample=True (defaults of Qwen2VLChat); ",
        ),
        (
            "Qwen2.5-VL-7B-Instruct",
            "temperature=0.5",
            "sampling: temperature=0.5 (--model-args); max_new_tokens=2048, top_p=0.001, top_k=1, "
            "repetition_penalty=1.0, do_sample=True (defaults",
        ),
        (
            "Qwen3-VL-8B-Instruct",
            "use_vllm=False,top_k=1",
            "sampling: top_k=1 (--model-args); temperature=0.7, max_new_tokens=16384, "
            "repetition_penalty=1.0, presence_penalty=1.5, top_p=0.8 (entry ",
        ),
        (
            "InternVL3-8B",
            "",
            "sampling: max_new_tokens=4096, do_sample=False (defaults of InternVLChat); ",
        ),
        ("SmolVLM2", "", "sampling: max_new_tokens=2048, do_sample=False (defaults of SmolVLM2); "),
        (
            "llava-onevision-qwen2-7b-ov-hf",
            "",
            "sampling: max_new_tokens=2048 (in the code of LLaVA_OneVision_HF); ",
        ),
    ],
)
def test_sampling_settings_are_said_in_one_line(
    tmp_path: Path, model: str, args: str, line: str
) -> None:
    said = [
        note
        for note in resolve(tmp_path, model, model_args=args).notes
        if note.startswith("sampling: ")
    ]
    assert len(said) == 1 and said[0].startswith(line)


def test_the_generic_class_says_its_sampling_too(tmp_path: Path) -> None:
    (said,) = resolve(tmp_path, folder(tmp_path, "m", model_type="aya_vision")).notes
    assert said.startswith("sampling: max_new_tokens=2048, temperature=0.0 (defaults of EasiVLM); ")


@pytest.mark.parametrize(
    ("model", "trusts", "flash"),
    [
        ("InternVL3-8B", True, False),
        ("MiniCPM-V-2_6", True, False),
        ("Qwen2.5-VL-7B-Instruct", False, True),
        ("SenseNova-SI-1.1-Qwen3-VL-8B", False, True),
        ("SmolVLM2", False, False),
        ("Phi-3.5-Vision", True, True),
    ],
)
def test_whose_code_runs_and_which_attention_is_said(
    tmp_path: Path, model: str, trusts: bool, flash: bool
) -> None:
    notes = resolve(tmp_path, model).notes
    assert sum("runs the checkpoint's own Python code" in note for note in notes) == trusts
    assert sum("loaded with sdpa" in note for note in notes) == flash


def test_a_class_that_needs_flash_attention_is_silent_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "flash_attn").mkdir(parents=True)
    (tmp_path / "site" / "flash_attn" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert not any("sdpa" in note for note in resolve(tmp_path, "Qwen2.5-VL-7B-Instruct").notes)


# ---- the generic class ---------------------------------------------------------------------------

REMOTE = {"auto_map": {"AutoConfig": "c.C", "AutoModelForImageTextToText": "m.M"}}


@pytest.mark.parametrize(
    ("config", "what", "hint"),
    [
        ({"model_type": "mine", **REMOTE}, "has its own Python code", "add --trust-remote-code"),
        (
            {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "m.M"}},
            "for AutoModelForCausalLM, but the generic class loads",
            "VLMEvalKit/vlmeval/vlm/",
        ),
        (
            {"model_type": "llama"},
            "model_type llama, which the installed transformers does not load as a model of images",
            "VLMEvalKit/vlmeval/vlm/",
        ),
    ],
)
def test_what_the_generic_class_cannot_load_is_refused_at_the_start(
    tmp_path: Path, config: dict[str, object], what: str, hint: str
) -> None:
    path = folder(tmp_path, "m", **config)
    for device in (None, "cpu"):
        error = refusal(tmp_path, path, device=device)
        assert what in error.message and hint in error.hint


@pytest.mark.parametrize(
    ("config", "trust"),
    [
        ({"model_type": "mine", **REMOTE}, True),
        ({"model_type": "aya_vision", **REMOTE}, False),
        ({"model_type": "aya_vision"}, False),
    ],
)
def test_what_the_generic_class_loads(
    tmp_path: Path, config: dict[str, object], trust: bool
) -> None:
    model = resolve(tmp_path, folder(tmp_path, "m", **config), trust_remote_code=trust)
    assert (model.cls, model.needs_gpu) == ("EasiVLM", True)
    assert model.why.startswith(
        f"no class of VLMEvalKit is known for model_type {config['model_type']} "
    )
    assert model.arguments.get("trust_remote_code", False) is trust


def test_the_types_of_transformers_are_read_from_its_source() -> None:
    types = image_text_types(BASE).keys()
    assert {"qwen2_5_vl", "smolvlm", "llava_onevision", "aya_vision"} < types
    assert not {"llama", "internvl_chat"} & types


@pytest.mark.parametrize("name", ["Qwen2.5-VL-7B-mine", "Qwen3-VL-8B-mine", "SmolVLM2-2.2B-mine"])
def test_on_the_cpu_the_generic_class_is_said_to_stand_in(online: VLMEvalKit, name: str) -> None:
    model = online.resolve(RunConfig(model=f"me/{name}", device="cpu"))
    assert (model.cls, model.needs_gpu, model.why) == (
        "EasiVLM",
        False,
        "VLMEvalKit's own classes need a GPU, and this run is on the CPU",
    )


def test_on_the_cpu_a_registry_name_means_its_checkpoint(tmp_path: Path) -> None:
    cached = tmp_path / "hf" / "hub" / "models--Qwen--Qwen2.5-VL-7B-Instruct"
    folder(cached / "snapshots", "abc", model_type="qwen2_5_vl")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    model = resolve(tmp_path, "Qwen2.5-VL-7B-Instruct", device="cpu")
    assert (model.cls, model.path) == ("EasiVLM", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert (
        "not with VLMEvalKit's entry Qwen2.5-VL-7B-Instruct (Qwen2VLChat): "
        "scores are not comparable with its scores" in model.notes
    )


# ---- models behind an API ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("GPT4o", ["OPENAI_API_KEY"]),
        ("QwenVLPlus", ["DASHSCOPE_API_KEY"]),
        ("HunYuan-Standard-Vision", ["HUNYUAN_SECRET_KEY", "HUNYUAN_SECRET_ID"]),
        ("Claude3V_Opus", ["ALLES"]),
        ("Step1V", ["STEPAI_API_KEY"]),
        ("SenseNova-V6-Pro", ["SENSENOVA_API_KEY"]),
    ],
)
def test_an_api_without_its_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: list[str]
) -> None:
    monkeypatch.delenv("ALLES", raising=False)
    assert unready(tmp_path, name).message == f"{name} asks a server and needs {' and '.join(keys)}"
    for key in keys:
        monkeypatch.setenv(key, "x")
    for device in (None, "cpu"):
        model = resolve(tmp_path, name, device=device)
        offline(tmp_path).ready(RunConfig(model=name, device=device), model)
        assert (model.entry, model.served, model.needs_gpu, offline(tmp_path).weights(model)) == (
            name,
            True,
            False,
            [],
        )


def test_keys_are_named_in_the_classes_that_read_them() -> None:
    package = catalog.locate(BACKEND_FACTS["vlmevalkit"])
    text = "".join(path.read_text(encoding="utf-8") for path in (package.root / "api").glob("*.py"))
    classes = {entry.cls for entry in catalog.vlmeval_entries(package).values() if entry.api}
    assert {*KEYS} <= classes
    for key in [key for keys in KEYS.values() for key in keys] + [key for _, key in OF_GPT4V]:
        assert f"'{key}'" in text or f'"{key}"' in text, key


def test_a_key_that_the_registry_gives_is_not_asked_for() -> None:
    assert missing_keys("CustomAPIModel", {"key": "EMPTY"}, {}) == []
    assert missing_keys("LMDeployAPI", {"api_base": "http://x/v1"}, {}) == ["LMDEPLOY_API_KEY"]
    assert missing_keys("Gemini", {"backend": "vertex"}, {}) == []
    assert missing_keys("GPT4V", {"model": "gpt-4o"}, {"OPENAI_API_KEY": "k"}) == []


# ---- VSI-Bench's videos --------------------------------------------------------------------------


def test_the_form_of_vsi_benchs_videos_is_a_setting_of_its_two_benchmarks(tmp_path: Path) -> None:
    kit = offline(tmp_path)
    frames = RunConfig(model="Qwen2.5-VL-7B-Instruct", vsi_input="frames", include_extra=True)
    plain = RunConfig(model="Qwen2.5-VL-7B-Instruct", include_extra=True)
    same = {
        key
        for key in ALL_KEYS
        if kit.settings(frames, by_key(key)) == kit.settings(plain, by_key(key))
    }
    assert set(ALL_KEYS) - same == {"vsi_bench", "vsi_debiased"}
    assert kit.settings(frames, by_key("vsi_bench"))["--vsi-input"] == "frames"
    first, second = kit.resolve(frames), kit.resolve(plain)
    assert identity("vlmevalkit", "1", first, frames) == identity("vlmevalkit", "1", second, plain)
    assert "VSI-Bench: 32 frames as images (--vsi-input frames)" in first.notes
    assert any(note.startswith("VSI-Bench: native video") for note in second.notes)
    paths = RunPaths.of(tmp_path, "vlmevalkit", "m", "0" * 64)
    for cfg, model, given in ((frames, first, True), (plain, second, False)):
        jobs = [
            kit.answer_job(cfg, model, [by_key("vsi_bench")], paths, 1),
            kit.plain_job(cfg, model, by_key("vsi_bench"), tmp_path, 1),
        ]
        assert [" ".join(job.argv).count("--vsi-input frames") for job in jobs] == [given, given]


def test_nothing_is_said_of_vsi_bench_where_it_is_not_run(tmp_path: Path) -> None:
    notes = resolve(tmp_path, "Qwen2.5-VL-7B-Instruct", benchmarks=("blink",)).notes
    assert not any("VSI-Bench" in note for note in notes)


@pytest.mark.parametrize(
    ("form", "what"), [("frames", "InternVLChat always gets frames"), ("video", "takes no videos")]
)
def test_a_class_of_frames_has_no_choice(tmp_path: Path, form: str, what: str) -> None:
    assert what in refusal(tmp_path, "InternVL3-8B", vsi_input=form).message
    assert resolve(tmp_path, "Qwen2.5-VL-7B-Instruct", vsi_input="video").cls == "Qwen2VLChat"
