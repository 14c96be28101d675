"""Checkpoints of a few hundred kilobytes with random weights, for the CPU.

Each has a real family's architecture, and reads text with the rehearsal's tokenizer. They are built
in seconds and are the same every time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2VLImageProcessorFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from rehearsal_data import checkpoint

WIDTH = 32
IMAGE_TEMPLATE = """\
{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' }}{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{ '<image>' }}{%- elif part.type == 'video' -%}{{ '<video>' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""  # noqa: E501 -- lines of a program in a string
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def qwen2_5_vl(folder: Path) -> Path:
    return checkpoint.build(folder)


def qwen3_vl(folder: Path) -> Path:
    tokenizer = _tokenizer(folder)
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "rope_scaling": {"rope_type": "default", "mrope_section": [4, 2, 2]},
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "depth": 1,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **ids,
    )
    pictures = Qwen2VLImageProcessorFast(
        patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    )
    processor = Qwen3VLProcessor(
        pictures, tokenizer, Qwen3VLVideoProcessor(), chat_template=checkpoint.CHAT_TEMPLATE
    )
    return _save(folder, Qwen3VLForConditionalGeneration(config), processor)


def internvl(folder: Path) -> Path:
    """A checkpoint with its own code, as InternVL's have.

    The model looks at the pictures and says a letter.
    """
    _tokenizer(folder)
    config = {
        "architectures": ["TinyInternVL"],
        "model_type": "internvl_chat",
        "torch_dtype": "bfloat16",
        "auto_map": {
            "AutoConfig": "tiny_internvl.TinyInternVLConfig",
            "AutoModel": "tiny_internvl.TinyInternVL",
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(Path(__file__).parent / "data" / "tiny_internvl.py", folder)
    from safetensors.torch import save_file

    save_file(
        {
            "head.weight": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
            "head.bias": torch.zeros(4),
        },
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def llava_onevision(folder: Path) -> Path:
    tokenizer = _tokenizer(folder, "<image>", "<video>")
    config = LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[28, 28], [28, 56]],
        vision_feature_layer=-1,
    )
    size = {"height": 28, "width": 28}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[28, 28], [28, 56]]),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=IMAGE_TEMPLATE,
    )
    return _save(folder, LlavaOnevisionForConditionalGeneration(config), processor)


def smolvlm2(folder: Path) -> Path:
    tokenizer, config = _idefics_like(folder, SmolVLMConfig)
    pictures = SmolVLMImageProcessor(
        size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
    )
    videos = SmolVLMVideoProcessor(size={"longest_edge": 28}, max_image_size={"longest_edge": 28})
    processor = SmolVLMProcessor(
        pictures, tokenizer, videos, image_seq_len=4, chat_template=IMAGE_TEMPLATE
    )
    return _save(folder, SmolVLMForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> Path:
    tokenizer, config = _idefics_like(folder, Idefics3Config)
    pictures = Idefics3ImageProcessor(
        size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, do_image_splitting=False
    )
    processor = Idefics3Processor(
        pictures, tokenizer, image_seq_len=4, chat_template=IMAGE_TEMPLATE
    )
    return _save(folder, Idefics3ForConditionalGeneration(config), processor)


def adapter(base: Path, folder: Path, merged: Path | None = None) -> Path:
    """A LoRA adapter of the checkpoint in ``base``, without a config.json, as peft saves it.

    ``merged`` is the folder in which to save both in one.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(base),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "lm_head"]),
    )
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.5)
    model.save_pretrained(folder)
    if merged is not None:
        model.merge_and_unload().save_pretrained(merged)
        AutoProcessor.from_pretrained(base).save_pretrained(merged)
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {
    builder.__name__: builder
    for builder in (qwen2_5_vl, qwen3_vl, internvl, llava_onevision, smolvlm, smolvlm2)
}


def _idefics_like(
    folder: Path, cls: type
) -> tuple[PreTrainedTokenizerBase, Idefics3Config | SmolVLMConfig]:
    tokenizer = _tokenizer(
        folder,
        "<image>",
        "<video>",
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
    )
    end = tokenizer.eos_token_id
    config = cls(
        vision_config=VISION,
        text_config={
            "model_type": "llama",
            **TEXT,
            "vocab_size": len(tokenizer),
            "pad_token_id": end,
            "eos_token_id": end,
        },
        scale_factor=1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=end,
    )
    return tokenizer, config


def _tokenizer(folder: Path, *tokens: str) -> PreTrainedTokenizerBase:
    """Write the rehearsal's tokenizer with further special tokens to ``folder``, alone."""
    checkpoint.build(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [*tokenizer.additional_special_tokens, *tokens]}
    )
    keep = ("tokenizer", "vocab", "merges", "special_tokens")
    for path in folder.iterdir():
        if not path.name.startswith(keep):
            path.unlink()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return tokenizer


def _save(folder: Path, model: PreTrainedModel, processor: object) -> Path:
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(0, 0.2)
    model.generation_config.pad_token_id = processor.tokenizer.eos_token_id
    # answers of about two tokens
    model.generation_config.eos_token_id = list(range(0, len(processor.tokenizer), 2))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def answers_a(folder: Path) -> Path:
    """Change the checkpoint of ``qwen3_vl`` so that it answers "A" to everything, at once.

    All tokens have one number in common, from which A follows, and A has another one, from which
    the end follows.
    """
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    letter, end = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["A", "<|im_end|>"])
    (tokens,) = (weight for name, weight in weights.items() if "embed_tokens" in name)
    (norm,) = (
        weight for name, weight in weights.items() if name.endswith("language_model.norm.weight")
    )
    tokens[:, :2] = torch.tensor([10.0, 0.0])
    tokens[letter, 1] = 10.0
    norm.fill_(1.0)
    head = weights["lm_head.weight"].zero_()
    head[letter, 0], head[end, 1] = 50.0, 100.0
    save_file(weights, path, metadata={"format": "pt"})
    return folder
