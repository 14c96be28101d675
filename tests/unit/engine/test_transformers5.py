"""Checkpoints saved by transformers 5 give the same results in transformers 4.57.

They are compared with the same checkpoint and a config.json of transformers 4.
"""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from easi_eval.backends.shared.newer_checkpoints import shadows
from easi_eval.core.errors import EasiError
from easi_eval.engine.vlm import newer_configs
from easi_eval.engine.vlm.transformers5 import BY_LAYER, ROPE, has_output_head, translate

SAMPLES = (
    Path(__file__).parents[2] / "data" / "transformers5"
)  # written by transformers 5.24, see refresh.py there
FAMILIES = sorted(path.name.removesuffix(".old.json") for path in SAMPLES.glob("*.old.json"))


def sample(family: str, form: str = "") -> dict[str, Any]:
    return json.loads((SAMPLES / f"{family}{form}.json").read_text(encoding="utf-8"))


def logits(folder: Path) -> Any:
    """What the checkpoint says to a text, and how its vision encoder turns positions."""
    import torch
    from transformers import AutoModelForImageTextToText

    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, dtype="float32", attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"], report
    turns = [
        value.double()
        for name, value in model.named_buffers()
        if "inv_freq" in name and ("visual" in name or "vision" in name)
    ]
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(7, 63)[None]).logits, turns


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, for one test."""
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from transformers.models.auto import tokenization_auto

    for place, name in (
        (PretrainedConfig, "_dict_from_json_file"),
        (PreTrainedTokenizerBase, "__init__"),
        (tokenization_auto, "tokenizer_class_from_name"),
    ):
        monkeypatch.setattr(place, name, place.__dict__[name])  # put back when the test is over
    newer_configs.read_newer_configs()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of a family, config.json in transformers 4's form, random weights; made once."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    made: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in made:
            made[family] = folder = tmp_path_factory.mktemp(family)
            shutil.copy(SAMPLES / f"{family}.old.json", folder / "config.json")
            model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
            torch.manual_seed(0)
            for weight in model.parameters():
                weight.data.normal_(0, 0.2)
            model.save_pretrained(folder)
            shutil.copy(SAMPLES / f"{family}.old.json", folder / "config.json")
        return made[family]

    return build


def newer(folder: Path, family: str, to: Path) -> Path:
    """The same weights with the config.json that transformers 5 saves."""
    shutil.copytree(folder, to)
    shutil.copy(SAMPLES / f"{family}.json", to / "config.json")
    return to


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_logits_with_the_config_of_transformers_5(
    family: str, checkpoint: Any, patched: None, tmp_path: Path
) -> None:
    old, old_turns = logits(checkpoint(family))
    new, new_turns = logits(newer(checkpoint(family), family, tmp_path / "new"))
    assert old.equal(new)
    assert all(one.equal(other) for one, other in zip(old_turns, new_turns, strict=True))


@pytest.mark.parametrize("family", ["qwen3_vl", "internvl", "llava_phi3"])
def test_equal_logits_where_transformers_itself_reads_the_folder_laid_out_for_it(
    family: str, checkpoint: Any, tmp_path: Path
) -> None:
    new = newer(checkpoint(family), family, tmp_path / "new")
    assert logits(shadows([new], {}, tmp_path / "run")[new])[0].equal(logits(checkpoint(family))[0])


@pytest.mark.parametrize("family", ["llava", "internvl", "gemma3", "mistral3", "smolvlm"])
def test_without_the_translation_the_logits_differ(
    family: str, checkpoint: Any, tmp_path: Path
) -> None:
    assert not logits(checkpoint(family))[0].equal(
        logits(newer(checkpoint(family), family, tmp_path / "new"))[0]
    )


def test_transformers_5_itself_reads_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    before = transformers.PretrainedConfig.__dict__["_dict_from_json_file"]
    monkeypatch.setattr(transformers, "__version__", "5.1.0")
    newer_configs.read_newer_configs()
    assert transformers.PretrainedConfig.__dict__["_dict_from_json_file"] is before


def test_the_users_file_stays_as_it_is(checkpoint: Any, patched: None, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = newer(checkpoint("llava"), "llava", tmp_path / "new")
    before = (folder / "config.json").read_bytes()
    config = AutoConfig.from_pretrained(folder).text_config
    assert (config.rope_theta, config.rope_scaling["rope_type"]) == (500000.0, "llama3")
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_of_transformers_4_passes_untouched(family: str) -> None:
    old = sample(family, ".old")
    assert (
        translate(copy.deepcopy(old), output_head=True) == translate(old)
        and translate(old).config == old
    )
    assert not (translate(old).changed or translate(old).unknown or translate(old).refused)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_translated_is_not_changed_again(family: str) -> None:
    once = translate(sample(family), output_head=False)
    again = translate(once.config, output_head=False)
    assert once.changed and again.config == once.config and not again.changed


def test_the_base_reaches_every_class_of_transformers_4() -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    theta, tried = 123456.0, []
    for kind in CONFIG_MAPPING_NAMES:
        cls = CONFIG_MAPPING[kind]
        if (
            not {"rope_theta", "global_rope_theta", "rotary_emb_base"}
            & inspect.signature(cls.__init__).parameters.keys()
        ):
            continue
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
        if kind in BY_LAYER:
            rope = {"full_attention": rope, "sliding_attention": rope}
        made = translate({"model_type": kind, "rope_parameters": rope})
        assert not made.refused, kind
        read = cls(**{name: value for name, value in made.config.items() if name != "model_type"})
        assert theta in (
            getattr(read, "rope_theta", None),
            getattr(read, "global_rope_theta", None),
        ), kind
        tried.append(kind)
    assert len(tried) > 80


@pytest.mark.parametrize(
    ("kind", "parameters", "read"),
    [
        (
            "gpt_neox",
            {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5},
            {"rotary_emb_base": 5e5, "rotary_pct": 0.5},
        ),
        (
            "chameleon",
            {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0},
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        ),
    ],
)
def test_families_with_names_of_their_own(
    kind: str, parameters: dict[str, Any], read: dict[str, Any]
) -> None:
    from transformers import CONFIG_MAPPING

    made = CONFIG_MAPPING[kind].from_dict(
        translate({"model_type": kind, "rope_parameters": parameters}).config
    )
    assert {name: getattr(made, name) for name in read} == read


def test_a_config_is_not_changed_in_place() -> None:
    new = sample("gemma3")
    before = copy.deepcopy(new)
    translate(new)
    assert new == before


@pytest.mark.parametrize(
    ("family", "key", "value", "word"),
    [
        (
            "llava",
            "rope_type",
            "proportional",
            "text_config.rope_parameters.rope_type is proportional",
        ),
        ("llava", "low_beta", 3.0, "text_config.rope_parameters.low_beta"),
        (
            "gemma3",
            "sliding_attention",
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
            "sliding_attention",
        ),
    ],
)
def test_what_has_no_equivalent_is_refused(family: str, key: str, value: object, word: str) -> None:
    new = sample(family)
    new["text_config"]["rope_parameters"][key] = value
    with pytest.raises(EasiError, match="different outputs") as refused:
        translate(new).check("org/model")
    assert word in refused.value.message


def test_other_bases_of_vision_encoders_and_settings_of_single_layers_are_refused() -> None:
    new = sample("qwen2_5_vl")
    new["vision_config"]["rope_parameters"]["rope_theta"] = 5000.0
    new["text_config"]["per_layer_config"] = {"0": {"head_dim": 8}}
    assert translate(new).refused == (
        "text_config.per_layer_config",
        "vision_config.rope_parameters.rope_theta is 5000.0, 10000.0 there",
    )


def test_layers_that_differ_need_a_class_that_tells_them_apart() -> None:
    new = sample("llava")
    same = {"rope_type": "default", "rope_theta": 5e5}
    new["text_config"]["rope_parameters"] = {
        "full_attention": same,
        "sliding_attention": dict(same),
    }
    assert translate(new).config["text_config"]["rope_theta"] == 5e5
    new["text_config"]["rope_parameters"]["sliding_attention"]["rope_theta"] = 1e4
    assert translate(new).refused


def test_code_of_the_checkpoints_own_finds_rope_parameters_beside_the_old_keys() -> None:
    own = {"auto_map": {"AutoModel": "modeling.Model"}, "model_type": "mine"}
    rope = {"rope_type": "default", "rope_theta": 5e5}
    for config in (
        {**own, "transformers_version": "5.1.0", "text_config": {"rope_parameters": rope}},
        {**own, "text_config": {"rope_parameters": rope}},
    ):
        made = translate(config)
        assert made.config["text_config"] == {
            "rope_parameters": rope,
            "rope_theta": 5e5,
            "rope_scaling": None,
        }
        assert translate(made.config).changed == ()
    # What its code wrote itself stays, and what it alone understands is no reason to refuse.
    for theirs in ({"rope_type": "mine", "base": 3}, {"a": {"rope_theta": 1}, "b": {"base": 2}}):
        config = {**own, "transformers_version": "5.1.0", "rope_theta": 7.0, ROPE: theirs}
        assert translate(config).config == config and not translate(config).refused
    config = {**own, "transformers_version": "4.57.1", "rope_theta": 7.0, ROPE: rope}
    assert translate(config, output_head=True).config == config


def test_unknown_keys_are_named() -> None:
    new = sample("llava")
    new["text_config"]["a_key_of_5_alone"] = 1
    assert translate(new).unknown == ("text_config.a_key_of_5_alone",)


@pytest.mark.parametrize(("head", "tied"), [(True, False), (False, True), (None, None)])
def test_the_output_head_is_what_the_checkpoint_holds(head: bool | None, tied: bool | None) -> None:
    """Transformers 5 reads the outer key and keeps a head that is in the checkpoint.

    4.57 reads the key of the text model.
    """
    new = sample("llava")
    new["tie_word_embeddings"] = True
    del new["text_config"]["tie_word_embeddings"]
    assert translate(new, head).config["text_config"].get("tie_word_embeddings") is tied


def test_whether_a_head_lies_in_the_checkpoint(checkpoint: Any, tmp_path: Path) -> None:
    assert has_output_head(checkpoint("llava")) is True
    assert has_output_head(checkpoint("qwen2_5_vl")) is False
    assert has_output_head(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    assert has_output_head(tmp_path) is None


def test_tokenizer_files_of_transformers_5(patched: None, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from rehearsal_data import checkpoint as rehearsal

    rehearsal.build(tmp_path)
    old = AutoTokenizer.from_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "TokenizersBackend"
    settings["extra_special_tokens"] = settings.pop("additional_special_tokens", ["<|image_pad|>"])
    settings.pop("added_tokens_decoder", None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    new = AutoTokenizer.from_pretrained(tmp_path)
    text = "<|im_start|>user\nWhich one? <|image_pad|><|im_end|>"
    assert new(text).input_ids == old(text).input_ids
    assert new.decode(new(text).input_ids, skip_special_tokens=True) == old.decode(
        old(text).input_ids, skip_special_tokens=True
    )
