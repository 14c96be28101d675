"""References of a checkpoint to other repositories, their part in the identity, and adapters.

An adapter becomes one folder with its base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from easi_eval.backends import make_backend
from easi_eval.backends.shared import newer_checkpoints
from easi_eval.backends.shared.adapter_folder import Adapter, bare_adapter, lay_out
from easi_eval.backends.shared.adapters import check_adapter, loads_pretrained, with_references
from easi_eval.backends.shared.folder_digest import folder_revision
from easi_eval.backends.shared.lineage import lineage
from easi_eval.backends.shared.references import (
    NOT_THERE,
    Reference,
    located,
    references,
    referred_to,
)
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.events import Notice
from easi_eval.core.model import ModelChoice
from easi_eval.data.needs import HubSettings
from easi_eval.run.identity import identity
from easi_eval.run.prepare import fetch_referred, laid_out
from hub_faults import FaultyHub

QWEN = {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"]}


def checkpoint(
    folder: Path, config: object = None, weights: str = "weights", **files: object
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"config": config, **files}.items():
        if value is not None:
            (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "model.bin").write_text(weights)
    return folder


def adapter(folder: Path, base: str) -> Path:
    made = checkpoint(folder, adapter_config={"peft_type": "LORA", "base_model_name_or_path": base})
    (made / "model.bin").rename(made / "adapter_model.bin")
    return made


def test_towers_bases_and_code_are_found_at_any_depth(tmp_path: Path) -> None:
    tower = checkpoint(tmp_path / "tower")
    made = checkpoint(
        tmp_path / "m",
        {
            "_name_or_path": "where/it-was-trained",
            "vision_tower": "org/clip",
            "mm_vision_tower": str(tower),
            "speech_encoder": "/data/not-there",
            "mm_vision_tower_type": "clip",
            "vision_model": "siglip",
            "text_config": {
                "auto_map": {"AutoModel": "org/code--modeling.Model", "AutoConfig": "own.Config"}
            },
            "vision_config": {"vision_tower_name": "org/inner"},
            "image_size": 28,
        },
        tokenizer_config={"auto_map": {"AutoTokenizer": ["org/tokenizer--slow.Tokenizer", None]}},
    )
    assert references(made) == [
        Reference("org/clip"),
        Reference(str(tower)),
        Reference("/data/not-there"),
        Reference("org/code", code=True),
        Reference("org/inner"),
        Reference("org/tokenizer", code=True),
    ]
    assert referred_to([made]) == {
        "org/clip": "",
        str(tower): folder_revision(tower),
        "/data/not-there": NOT_THERE,
        "org/code": "",
        "org/inner": "",
        "org/tokenizer": "",
    }


def test_what_is_referred_to_may_refer_to_more_and_in_a_circle(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    checkpoint(first, {"vision_tower": str(second)})
    checkpoint(second, {"vision_tower": str(first), "audio_tower": "org/ears"})
    assert list(referred_to([first])) == [str(second), str(first), "org/ears"]


def test_a_relative_path_is_looked_for_from_here_and_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = checkpoint(tmp_path / "m" / "base")
    monkeypatch.chdir(tmp_path)
    assert located("./base", tmp_path / "m") == located("base", tmp_path / "m") == str(beside)
    here = checkpoint(tmp_path / "org" / "model")
    assert located("org/model", tmp_path / "m") == str(here)  # as transformers would
    assert located("org/other", tmp_path / "m") == "org/other"
    assert located("../gone", tmp_path / "m") == str(tmp_path / "../gone")


def named(model: Path) -> str:
    cfg = RunConfig(
        model="qwen2_5_vl", model_args=f"pretrained={model}", backend="lmms-eval", device="cpu"
    )
    return identity("lmms-eval", "1", make_backend("lmms-eval", HubSettings()).resolve(cfg), cfg)


@pytest.mark.parametrize(
    "refer",
    [
        lambda root, other: adapter(root / "a", str(other)),
        lambda root, other: checkpoint(root / "c", {**QWEN, "mm_vision_tower": str(other)}),
        lambda root, other: checkpoint(
            root / "n",
            {
                **QWEN,
                "mm_vision_tower": str(checkpoint(root / "between", {"audio_tower": str(other)})),
            },
        ),
    ],
    ids=["an adapter's base", "a vision tower", "what that refers to"],
)
def test_new_weights_in_what_a_checkpoint_refers_to_are_another_identity(
    tmp_path: Path, refer: object
) -> None:
    other = checkpoint(tmp_path / "other", QWEN, "one")
    made = refer(tmp_path, other)
    before = named(made)
    assert named(made) == before
    checkpoint(other, QWEN, "two")
    assert named(made) != before


def test_what_lies_on_the_hub_is_fetched_at_any_depth_and_told_if_it_cannot_be(
    tmp_path: Path,
) -> None:
    served = tmp_path / "served" / "models" / "org"
    checkpoint(served / "base", {**QWEN, "vision_tower": "org/tower", "audio_tower": "org/absent"})
    checkpoint(served / "tower", {"model_type": "clip"}, auto_config={"auto_map": {}})
    local = checkpoint(
        tmp_path / "between",
        {"auto_map": {"AutoModel": "org/code--modeling.Model"}, "vision_tower": "org/base"},
    )
    checkpoint(served / "code")
    (served / "code" / "modeling.py").write_text("Model = object\n")
    made = adapter(tmp_path / "a", str(local))
    said: list[object] = []
    with FaultyHub(tmp_path / "served") as running:
        settings = HubSettings(endpoint=running.endpoint, hf_home=tmp_path / "hf", backoff=0.01)
        found = fetch_referred([made], [], said.append, settings)
        assert list(fetch_referred([made], ["org/base"], lambda event: None, settings)) == [
            "org/code"
        ], "the launch fetches the others itself"
    assert set(found) == {"org/base", "org/tower", "org/code"} and all(
        each.revision for each in found.values()
    )
    assert (found["org/base"].path / "model.bin").read_text() == "weights"
    assert [path.name for path in found["org/code"].path.iterdir()] == ["modeling.py"], (
        "of code, the code alone"
    )
    assert [
        event.text
        for event in said
        if isinstance(event, Notice) and "org/absent" in event.text and event.level == "warning"
    ]


def test_a_repository_of_code_and_weights_is_fetched_whole(tmp_path: Path) -> None:
    both = checkpoint(tmp_path / "served" / "models" / "org" / "both")
    (both / "modeling.py").write_text("Model = object\n")
    code = {"auto_map": {"AutoModel": "org/both--modeling.Model"}}
    weights = {"vision_tower": "org/both"}
    with FaultyHub(tmp_path / "served") as running:
        for name, config in (("a", {**code, **weights}), ("b", {**weights, **code})):
            settings = HubSettings(endpoint=running.endpoint, hf_home=tmp_path / f"hf-{name}")
            made = checkpoint(tmp_path / name, config)
            found = fetch_referred([made], [], lambda event: None, settings)["org/both"]
            assert (found.path / "model.bin").is_file() and (found.path / "modeling.py").is_file()


def test_a_checkpoint_that_refers_to_nothing_has_no_such_field(tmp_path: Path) -> None:
    model = ModelChoice("m", str(checkpoint(tmp_path / "m", QWEN)), "qwen2_5_vl", "")
    assert with_references(model, HubSettings(hf_home=tmp_path)) == model


# ---- adapters ------------------------------------------------------------------------------------


def test_an_adapter_and_its_base_are_laid_out_as_one_folder(tmp_path: Path) -> None:
    base = checkpoint(
        tmp_path / "base", QWEN, tokenizer_config={"of": "base"}, preprocessor_config={"of": "base"}
    )
    (base / "model.safetensors.index.json").write_text("{}")
    made = adapter(tmp_path / "m", "somewhere/else")
    (made / "tokenizer_config.json").write_text('{"of": "adapter"}')
    for _ in range(2):  # the second launch finds the first one's
        lay_out(Adapter(made, "somewhere/else"), base, tmp_path / "both")
    both = {path.name: path.read_text() for path in (tmp_path / "both").iterdir()}
    assert both.keys() == {
        "config.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "adapter_config.json",
        "adapter_model.bin",
    }
    assert json.loads(both["tokenizer_config.json"]) == {"of": "adapter"} and json.loads(
        both["preprocessor_config.json"]
    ) == {"of": "base"}
    assert json.loads(both["adapter_config.json"]) == {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
    }
    assert (
        json.loads((made / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "somewhere/else"
    ), "the user's stays"


@pytest.mark.parametrize("hub", [False, True], ids=["a folder", "of the hub"])
@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_workers_get_an_adapter_together_with_its_base(
    tmp_path: Path, backend: str, hub: bool
) -> None:
    base = checkpoint(tmp_path / "base", QWEN)
    made = adapter(tmp_path / "mine", "org/base" if hub else str(base))
    arguments = {"pretrained": str(made)} if backend == "lmms-eval" else {}
    model = ModelChoice(
        "mine", str(made), "Chat", "", arguments=arguments, base="org/base" if hub else str(base)
    )
    kit = make_backend(backend, HubSettings())
    found = laid_out(model, {"org/base": base} if hub else {}, kit, tmp_path / "run" / "checkpoint")
    assert Path(found.path).parent == tmp_path / "run" / "checkpoint" and list(
        found.arguments.values()
    ) == [found.path] * len(arguments)
    assert json.loads((Path(found.path) / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(base)
    if hub:  # all is answered, and nothing was fetched
        assert laid_out(model, {}, kit, tmp_path / "other") == model


def test_an_adapters_class_is_chosen_by_its_base(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "Qwen2.5-VL-7B-Instruct", QWEN)
    cfg = RunConfig(model=str(adapter(tmp_path / "mine", str(base))))
    model = make_backend("vlmevalkit", HubSettings()).resolve(cfg)
    assert (model.name, model.cls, model.base, list(model.refers_to)) == (
        "mine",
        "Qwen2VLChat",
        str(base),
        [str(base)],
    )
    assert model.why.startswith(
        "its base's config.json says model_type qwen2_5_vl; "
        "settings of VLMEvalKit's entry Qwen2.5-VL-7B-Instruct"
    )
    assert any(
        f"an adapter of {base}" in note and '"weightType": "Adapter"' in note
        for note in model.notes
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[FaultyHub, HubSettings]]:
    """A hub with an adapter and its base, and an empty cache."""
    org = tmp_path / "served" / "models" / "org"
    adapter(org / "mine", "org/Qwen2.5-VL-7B-Instruct")
    checkpoint(org / "Qwen2.5-VL-7B-Instruct", QWEN)
    with FaultyHub(tmp_path / "served") as running:
        yield running, HubSettings(endpoint=running.endpoint, hf_home=tmp_path / "hf", backoff=0.01)


OF_THE_HUB = {
    "vlmevalkit": RunConfig(model="org/mine"),
    "lmms-eval": RunConfig(
        model="qwen2_5_vl", model_args="pretrained=org/mine", backend="lmms-eval"
    ),
}


@pytest.mark.parametrize("backend", OF_THE_HUB)
def test_an_adapter_of_the_hub_is_seen_before_it_was_ever_fetched(
    served: tuple[FaultyHub, HubSettings], backend: str
) -> None:
    kit = make_backend(backend, served[1])
    model = kit.resolve(OF_THE_HUB[backend])
    assert model.base == "org/Qwen2.5-VL-7B-Instruct"
    assert [need.repo for need in kit.weights(model)] == ["org/mine", model.base]
    if backend == "vlmevalkit":
        assert model.why.endswith("settings of VLMEvalKit's entry Qwen2.5-VL-7B-Instruct")


def test_it_is_refused_for_an_engine_and_the_hub_is_asked_once(
    served: tuple[FaultyHub, HubSettings],
) -> None:
    running, settings = served
    kit = make_backend("lmms-eval", settings)
    with pytest.raises(EasiError, match="vllm does not apply it to its base"):
        kit.resolve(RunConfig(model="vllm", model_args="model=org/mine", backend="lmms-eval"))
    model = kit.resolve(OF_THE_HUB["lmms-eval"])
    asked = len(running.served())
    kit.ready(OF_THE_HUB["lmms-eval"], model)
    repos = {need.repo: need.revision for need in kit.weights(model)}
    newer_checkpoints.notes(OF_THE_HUB["lmms-eval"], model, repos, settings)
    assert len(running.served()) == asked


def test_a_hub_that_cannot_be_asked_is_no_error_on_lmms_eval(tmp_path: Path) -> None:
    for settings in (
        HubSettings(hf_home=tmp_path, offline=True),
        HubSettings(endpoint="http://127.0.0.1:1", hf_home=tmp_path, patience=0.1, backoff=0.01),
    ):
        kit = make_backend("lmms-eval", settings)
        model = kit.resolve(OF_THE_HUB["lmms-eval"])
        kit.ready(OF_THE_HUB["lmms-eval"], model)
        assert (model.path, model.base) == ("org/mine", "")


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("", "names no base"),
        ("/data/gone", "an adapter of /data/gone, and that folder is not there"),
    ],
)
@pytest.mark.parametrize("backend", ["vlmevalkit", "lmms-eval"])
def test_an_adapter_without_its_base_is_refused(
    tmp_path: Path, base: str, said: str, backend: str
) -> None:
    made = adapter(tmp_path / "m", base)
    cfg = (
        RunConfig(model=str(made))
        if backend == "vlmevalkit"
        else RunConfig(model="qwen2_5_vl", model_args=f"pretrained={made}", backend=backend)
    )
    with pytest.raises(EasiError, match=said) as refused:
        make_backend(backend, HubSettings()).resolve(cfg)
    assert str(made / "adapter_config.json") in refused.value.hint


def test_an_adapter_that_its_class_would_not_lay_over_is_refused_with_how_to_merge(
    tmp_path: Path,
) -> None:
    base = checkpoint(tmp_path / "base", QWEN)
    made = adapter(tmp_path / "m", str(base))
    with pytest.raises(EasiError, match="vllm does not apply it to its base") as refused:
        check_adapter(ModelChoice("m", str(made), "vllm", "", engine="vllm", base=str(base)), [])
    assert "merge_and_unload" in refused.value.hint and str(base) in refused.value.hint


def test_which_classes_load_by_from_pretrained() -> None:
    from easi_eval.backends.shared import catalog
    from easi_eval.core.backend_facts import BACKEND_FACTS

    package = catalog.locate(BACKEND_FACTS["vlmevalkit"])

    def loads(name: str) -> bool:
        return loads_pretrained(lineage(package, f"vlmeval.vlm.{name}"))

    assert all(
        map(
            loads,
            (
                "Qwen2VLChat",
                "Qwen3VLChat",
                "InternVLChat",
                "LLaVA_OneVision_HF",
                "SmolVLM2",
                "Gemma3",
            ),
        )
    )
    assert not loads("LLaVA"), "its weights are loaded by a function of the llava package"


def test_a_folder_with_a_config_is_no_bare_adapter(tmp_path: Path) -> None:
    made = adapter(tmp_path / "m", "org/base")
    assert bare_adapter(made) == Adapter(made, "org/base")
    checkpoint(made, QWEN)
    assert bare_adapter(made) is None
