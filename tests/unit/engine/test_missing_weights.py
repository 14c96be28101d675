"""Which weights that were in no file are refused, and which are no fault.

Tiny models are loaded by transformers' own code.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from easi_eval.core.errors import EasiError
from easi_eval.engine.vlm.missing_weights import refusing_missing_weights

torch.set_num_threads(1)
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
Q = "model.layers.0.self_attn.q_proj.weight"
Q_BIAS = "model.layers.0.self_attn.q_proj.bias"


def qwen(folder: Path, tied: bool = False) -> Path:
    config = Qwen2Config(vocab_size=32, num_key_value_heads=2, tie_word_embeddings=tied, **SIZES)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    CLIPVisionModel(CLIPVisionConfig(image_size=8, patch_size=4, **SIZES)).save_pretrained(folder)
    return folder


def change(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / "model.safetensors"
    save_file(
        {name: weight.clone() for name, weight in change(load_file(path)).items()},
        path,
        metadata={"format": "pt"},
    )


def drop(folder: Path, *names: str) -> Path:
    change(
        folder,
        lambda weights: {name: weight for name, weight in weights.items() if name not in names},
    )
    return folder


def refused(load: Callable[[], object]) -> str:
    with pytest.raises(EasiError) as error, refusing_missing_weights():
        kept = load()
        gc.collect()
    del kept
    return error.value.message


def test_a_whole_checkpoint_and_a_tied_one_load_and_nothing_stays_patched(tmp_path: Path) -> None:
    before = PreTrainedModel.__dict__["from_pretrained"]
    for tied in (False, True):
        folder = qwen(tmp_path / str(tied), tied)
        assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
        with refusing_missing_weights():
            model = AutoModelForCausalLM.from_pretrained(folder)
            both = Qwen2ForCausalLM.from_pretrained(
                pretrained_model_name_or_path=folder, output_loading_info=True
            )
        assert model.lm_head.weight.shape == (32, 16)
        assert isinstance(both, tuple) and not both[1]["missing_keys"]
    assert PreTrainedModel.__dict__["from_pretrained"] is before


def test_names_with_another_prefix_are_refused_and_three_are_named(tmp_path: Path) -> None:
    folder = qwen(tmp_path / "m")
    change(
        folder,
        lambda weights: {
            f"module.{name}" if "layers" in name else name: weight
            for name, weight in weights.items()
        },
    )
    message = refused(lambda: AutoModelForCausalLM.from_pretrained(folder))
    assert message.startswith(
        f"{folder} lacks 24 of its model's weights: model.layers.0.input_layernorm.weight, "
    )
    assert message.count("model.layers") == 3 and message.endswith(", ...")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_missing_weight_is_refused_whatever_the_class_does_to_the_model_afterwards(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = drop(qwen(tmp_path / "m"), Q)
    assert refused(lambda: AutoModelForCausalLM.from_pretrained(folder).to(dtype).eval()).endswith(
        f"lacks 1 of its model's weights: {Q}"
    )

    def part() -> object:
        return AutoModelForCausalLM.from_pretrained(folder).model.layers[0].to(dtype)

    assert refused(part).endswith(Q)


def test_a_missing_norm_or_bias_is_refused_though_its_values_are_all_equal(tmp_path: Path) -> None:
    folder = drop(qwen(tmp_path / "m"), Q_BIAS, "model.norm.weight")
    assert "lacks 2 of its" in refused(lambda: AutoModelForCausalLM.from_pretrained(folder))


def test_weights_of_another_shape_that_are_ignored_are_missing(tmp_path: Path) -> None:
    folder = qwen(tmp_path / "m")
    change(folder, lambda weights: {**weights, Q: torch.zeros(16, 8)})
    assert refused(
        lambda: AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True)
    ).endswith(Q)


def test_what_is_loaded_afterwards_is_no_fault_whichever_way(tmp_path: Path) -> None:
    whole = load_file(qwen(tmp_path / "m") / "model.safetensors")
    folder = drop(tmp_path / "m", Q, Q_BIAS)
    other = Qwen2ForCausalLM(Qwen2Config(vocab_size=32, num_key_value_heads=2, **SIZES))

    def by_state_dict(model: Qwen2ForCausalLM) -> None:
        model.load_state_dict(whole, strict=False)

    def by_assigning(model: Qwen2ForCausalLM) -> None:
        model.load_state_dict(whole, strict=False, assign=True)

    def by_replacing(model: Qwen2ForCausalLM) -> None:
        model.model.layers[0].self_attn = other.model.layers[0].self_attn

    def by_dropping(model: Qwen2ForCausalLM) -> None:
        model.model.layers[0].self_attn.q_proj = torch.nn.Identity()

    for load in (by_state_dict, by_assigning, by_replacing, by_dropping):
        with refusing_missing_weights():
            model = Qwen2ForCausalLM.from_pretrained(folder)
            load(model)


def test_a_model_that_was_loaded_for_a_part_of_it_is_judged_by_that_part(tmp_path: Path) -> None:
    folder = drop(qwen(tmp_path / "m"), Q)
    with refusing_missing_weights():
        kept = Qwen2ForCausalLM.from_pretrained(folder).model.layers[1]
    assert kept is not None


class Pair(PreTrainedModel):
    """A model with its own code whose vision tower has a separate folder.

    The model's own file lacks the weights of the tower.
    """

    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.tower = None
        self.head = torch.nn.Linear(16, 4)
        self.post_init()

    def load_tower(self, folder: Path) -> None:
        self.tower = CLIPVisionModel.from_pretrained(folder)


def test_a_vision_tower_from_another_folder_is_no_fault_unless_it_is_incomplete(
    tmp_path: Path,
) -> None:
    tower, folder = clip(tmp_path / "tower"), tmp_path / "pair"
    Pair(PretrainedConfig()).save_pretrained(folder)

    def load() -> Pair:
        model = Pair.from_pretrained(folder)
        model.load_tower(tower)
        return model.half()

    with refusing_missing_weights():
        load()
    drop(tower, "vision_model.encoder.layers.0.mlp.fc1.weight")
    assert (
        refused(load)
        == f"{tower} lacks 1 of its model's weights: vision_model.encoder.layers.0.mlp.fc1.weight"
    )


def test_a_pooling_layer_and_what_the_class_lets_be_missing_are_no_fault(tmp_path: Path) -> None:
    BertModel(BertConfig(vocab_size=32, **SIZES), add_pooling_layer=False).save_pretrained(tmp_path)

    class Lenient(Qwen2ForCausalLM):
        _keys_to_ignore_on_load_missing: ClassVar[list[str]] = [r"q_proj"]

    folder = drop(qwen(tmp_path / "m"), Q)
    with refusing_missing_weights():
        assert BertModel.from_pretrained(tmp_path).pooler is not None
        assert Lenient.from_pretrained(folder) is not None


def test_an_adapter_that_lacks_weights_is_refused_on_both_ways_of_loading(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    base, adapter = qwen(tmp_path / "base"), tmp_path / "adapter"
    get_peft_model(
        Qwen2ForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj", "v_proj"], r=2)
    ).save_pretrained(adapter)
    file = adapter / "adapter_model.safetensors"
    whole = load_file(file)

    def by_peft() -> object:
        return PeftModel.from_pretrained(Qwen2ForCausalLM.from_pretrained(base), adapter)

    def by_transformers() -> object:
        return Qwen2ForCausalLM.from_pretrained(adapter)

    assert json.loads((adapter / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(base)
    with refusing_missing_weights():
        assert by_peft() is not None and by_transformers() is not None
    save_file(
        {name: weight for name, weight in whole.items() if "layers.0" in name},
        file,
        metadata={"format": "pt"},
    )
    for load in (by_peft, by_transformers):
        assert "an adapter lacks 4 of its model's weights" in refused(load)
