"""The smoke run's model: a Qwen2.5-VL of a few megabytes with weights set by hand, not trained.

It answers every benchmark in the form that is asked for (a letter of the list, a number, a line of
reasoning, a movement). Its answers depend on the images and on the words; ``weights`` explains how.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import save_file

from . import vocabulary
from .vocabulary import MERGES, SPECIAL, Token
from .weights import (
    FEED_FORWARD,
    HEADS,
    HIDDEN,
    PATCH,
    THETA,
    VISION_HEADS,
    VISION_HIDDEN,
    Weights,
    padded,
)

MIN_PIXELS, MAX_PIXELS = 4 * 28 * 28, 16 * 28 * 28

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def build(folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint into ``folder`` (created if missing) and return the folder.

    The same seed gives the same bytes. The weights are float32. ``AutoModelForImageTextToText`` and
    ``AutoProcessor`` load it; writing it needs numpy and safetensors only.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = vocabulary.tokens()
    weights = Weights(seed, known).tensors()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in _configs(len(known)).items():
        _write(
            folder / name, json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        )
    _write(folder / "tokenizer.json", json.dumps(_tokenizer(known), ensure_ascii=False) + "\n")
    _write(folder / "vocab.json", json.dumps(_shown_vocabulary(known), ensure_ascii=False) + "\n")
    _write(
        folder / "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in _shown_merges())
    )
    _write(folder / "chat_template.jinja", CHAT_TEMPLATE)
    return folder


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _special_ids(words: int) -> dict[str, int]:
    return {text: words + n for n, text in enumerate(SPECIAL)}


def _configs(words: int) -> dict[str, dict[str, object]]:
    """The content of each small JSON file, by file name.

    ``words`` is the number of tokens before the special ones.
    """
    ids = _special_ids(words)
    end, pad = ids["<|im_end|>"], ids["<|endoftext|>"]
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "torch_dtype": "float32",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": padded(words + len(SPECIAL)),
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "rope_theta": THETA,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": 32768,
        "max_window_layers": 2,
        "bos_token_id": pad,
        "eos_token_id": end,
        "pad_token_id": pad,
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": 1,
            "hidden_size": VISION_HIDDEN,
            "intermediate_size": VISION_HIDDEN,
            "num_heads": VISION_HEADS,
            "out_hidden_size": HIDDEN,
            "patch_size": PATCH,
            "spatial_patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_chans": 3,
            "window_size": 112,
            "hidden_act": "silu",
            "fullatt_block_indexes": [0],
            "tokens_per_second": 2,
        },
    }
    pictures = {
        "min_pixels": MIN_PIXELS,
        "max_pixels": MAX_PIXELS,
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "Qwen2_5_VLProcessor",
    }
    special: dict[str, object] = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(SPECIAL[1:]),
    }
    return {
        "config.json": config,
        "generation_config.json": {
            "bos_token_id": pad,
            "eos_token_id": [end, pad],
            "pad_token_id": pad,
            "do_sample": False,
        },
        "preprocessor_config.json": pictures
        | {"image_processor_type": "Qwen2VLImageProcessorFast"},
        "video_preprocessor_config.json": pictures
        | {"video_processor_type": "Qwen2VLVideoProcessor"},
        "special_tokens_map.json": special,
        "tokenizer_config.json": special
        | {
            "tokenizer_class": "Qwen2Tokenizer",
            "processor_class": "Qwen2_5_VLProcessor",
            "model_max_length": 32768,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "split_special_tokens": False,
            "bos_token": None,
            "unk_token": None,
            "chat_template": CHAT_TEMPLATE,
            "added_tokens_decoder": {str(number): _added(text) for text, number in ids.items()},
        },
    }


def _added(text: str) -> dict[str, object]:
    return {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


def _shown_vocabulary(known: list[Token]) -> dict[str, int]:
    alphabet = vocabulary.printable()
    return {"".join(alphabet[value] for value in token.text): n for n, token in enumerate(known)}


def _shown_merges() -> list[tuple[str, str]]:
    alphabet = vocabulary.printable()
    return [(alphabet[ord(a)], alphabet[ord(b)]) for a, b in MERGES]


def _tokenizer(known: list[Token]) -> dict[str, object]:
    """The content of tokenizer.json (format 1.0 of the tokenizers library)."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": vocabulary.SPLIT_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, **_added(text)} for text, number in _special_ids(len(known)).items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": _shown_vocabulary(known),
            "merges": [list(pair) for pair in _shown_merges()],
        },
    }
