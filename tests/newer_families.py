"""Checkpoints of families that only transformers 5 knows, tiny and with random weights.

It runs with the Python of profile 5: ``python tests/newer_families.py FOLDER FAMILY ...``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import transformers as tf
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from random_weights import draw
from rehearsal_data import checkpoint

WIDTH = 32
TEMPLATE = """\
{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' }}{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{ 'IMAGE' }}{%- elif part.type == 'video' -%}{{ 'VIDEO' }}{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""  # noqa: E501 -- lines of a program in a string
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
SECTIONS = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
    "mrope_section": [4, 2, 2],
}
QWEN_VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": WIDTH,
}
PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 256 * 256}
VIDEO_PIXELS = {"shortest_edge": 4 * 28 * 28, "longest_edge": 4 * 64 * 64}


def qwen3_5(folder: Path) -> None:
    _qwen3_5(folder, tf.Qwen3_5Config, tf.Qwen3_5ForConditionalGeneration, {})


def qwen3_5_moe(folder: Path) -> None:
    experts = {
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    }
    _qwen3_5(folder, tf.Qwen3_5MoeConfig, tf.Qwen3_5MoeForConditionalGeneration, experts)


def _qwen3_5(
    folder: Path,
    config: type[PretrainedConfig],
    model: type[PreTrainedModel],
    experts: dict[str, int],
) -> None:
    tokenizer = _tokenizer(folder)
    tokens = {"image": "image_pad", "video": "video_pad"} | {
        name: name for name in ("vision_start", "vision_end")
    }
    made = config(
        text_config={
            **TEXT,
            **LINEAR,
            **experts,
            "vocab_size": len(tokenizer),
            "rope_parameters": {**SECTIONS, "mrope_interleaved": True},
        },
        vision_config={**QWEN_VISION, "num_position_embeddings": 16},
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
            for name, token in tokens.items()
        },
    )
    processor = tf.Qwen3VLProcessor(
        tf.Qwen2VLImageProcessor(patch_size=16, size=PIXELS),
        tokenizer,
        tf.Qwen3VLVideoProcessor(size=VIDEO_PIXELS),
        chat_template=checkpoint.CHAT_TEMPLATE,
    )
    _save(folder, model(made), processor)


def gemma4(folder: Path) -> None:
    tokenizer = _tokenizer(
        folder,
        bos_token="<bos>",
        boi_token="<|image>",
        image_token="<|image|>",
        eoi_token="<image|>",
        video_token="<|video|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    config = tf.Gemma4Config(
        text_config={
            **TEXT,
            "head_dim": 16,
            "global_head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 8,
            "vocab_size": len(tokenizer),
            "vocab_size_per_layer_input": len(tokenizer),
            **{
                f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
                for name, token in (
                    ("pad", tokenizer.pad_token),
                    ("eos", tokenizer.eos_token),
                    ("bos", tokenizer.bos_token),
                )
            },
        },
        vision_config={
            **TEXT,
            "num_hidden_layers": 1,
            "head_dim": 16,
            "position_embedding_size": 64,
        },
        audio_config=None,
        **{
            name: tokenizer.convert_tokens_to_ids(token)
            for name, token in (
                ("boi_token_id", "<|image>"),
                ("eoi_token_id", "<image|>"),
                ("image_token_id", "<|image|>"),
                ("video_token_id", "<|video|>"),
                ("boa_token_id", "<|audio>"),
                ("eoa_token_index", "<audio|>"),
                ("audio_token_id", "<|audio|>"),
            )
        },
    )
    processor = tf.Gemma4Processor(
        tf.Gemma4AudioFeatureExtractor(),
        tf.Gemma4ImageProcessor(max_soft_tokens=70),
        tokenizer,
        tf.Gemma4VideoProcessor(max_soft_tokens=70),
        chat_template="{{ bos_token }}" + _template("<|image|>", "<|video|>"),
    )
    _save(folder, tf.Gemma4ForConditionalGeneration(config), processor)


def glm46v(folder: Path) -> None:
    marks = {
        f"{kind}_{edge}": f"<|{word}_of_{kind}|>"
        for kind in ("image", "video")
        for edge, word in (("start", "begin"), ("end", "end"))
    }
    tokens = {"image": "<|image|>", "video": "<|video|>", **marks}
    tokenizer = _tokenizer(folder, **{f"{name}_token": token for name, token in tokens.items()})
    config = tf.Glm46VConfig(
        text_config={
            "model_type": "glm4v_text",
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": SECTIONS,
        },
        vision_config={"model_type": "glm4v_vision", **QWEN_VISION, "image_size": 56},
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
            for name, token in tokens.items()
        },
    )
    processor = tf.Glm46VProcessor(
        tf.Glm46VImageProcessor(size=PIXELS),
        tokenizer,
        tf.Glm46VVideoProcessor(size=VIDEO_PIXELS, max_image_size={"longest_edge": 4 * 64 * 64}),
        chat_template=_template(
            "<|begin_of_image|><|image|><|end_of_image|>",
            "<|begin_of_video|><|video|><|end_of_video|>",
        ),
    )
    _save(folder, tf.Glm46VForConditionalGeneration(config), processor)


def molmo2(folder: Path) -> None:
    tokens = {
        "image_start_token_id": "<im_start>",
        "low_res_image_start_token_id": "<low_res_im_start>",
        "image_end_token_id": "<im_end>",
        "image_patch_id": "<im_patch>",
        "frame_start_token_id": "<frame_start>",
        "frame_end_token_id": "<frame_end>",
    }
    tokenizer = _tokenizer(
        folder,
        *tokens.values(),
        "<im_col>",
        "<im_low>",
        image_token="<|image|>",
        video_token="<|video|>",
    )
    extra = 8
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    config = tf.Molmo2Config(
        text_config={
            **TEXT,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "additional_vocab_size": extra,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        vision_config={**vision, "num_hidden_layers": 2, "image_size": [56, 56]},
        adapter_config={**vision, "vision_feature_layer": [1, 0], "text_hidden_size": WIDTH},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()},
    )
    size = {"height": 56, "width": 56}
    processor = tf.Molmo2Processor(
        tf.Molmo2ImageProcessor(size=size, max_crops=2, overlap_margins=[1, 1]),
        tf.Molmo2VideoProcessor(size=size),
        tokenizer,
        chat_template=_template("<|image|>", "<|video|>"),
    )
    _save(folder, tf.Molmo2ForConditionalGeneration(config), processor)


def ernie4_5_vl_moe(folder: Path) -> None:
    tokens = {
        "image": "<|IMAGE_PLACEHOLDER|>",
        "image_start": "<|IMAGE_START|>",
        "image_end": "<|IMAGE_END|>",
        "video": "<|VIDEO_PLACEHOLDER|>",
        "video_start": "<|VIDEO_START|>",
        "video_end": "<|VIDEO_END|>",
    }
    tokenizer = _tokenizer(folder, **{f"{name}_token": token for name, token in tokens.items()})
    config = tf.Ernie4_5_VLMoeConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "moe_intermediate_size": [16, 16],
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "rope_parameters": {**SECTIONS, "mrope_section": [3, 3, 2]},
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "depth": 1,
            "num_heads": 2,
        },
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
            for name, token in tokens.items()
        },
    )
    processor = tf.Ernie4_5_VLMoeProcessor(
        tf.Ernie4_5_VLMoeImageProcessor(size=PIXELS),
        tokenizer,
        tf.Ernie4_5_VLMoeVideoProcessor(size=PIXELS, draw_on_frames=False),  # it has no font
        chat_template=_template(
            "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
            "<|VIDEO_START|><|VIDEO_PLACEHOLDER|><|VIDEO_END|>",
        ),
    )
    _save(folder, tf.Ernie4_5_VLMoeForConditionalGeneration(config), processor)


def video_llama_3(folder: Path) -> None:
    tokenizer = _tokenizer(folder)
    config = tf.VideoLlama3Config(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        vision_config={
            "model_type": "video_llama_3_vision",
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "patch_size": 14,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    processor = tf.VideoLlama3Processor(
        tf.VideoLlama3ImageProcessor(size=PIXELS),
        tokenizer,
        tf.VideoLlama3VideoProcessor(size=VIDEO_PIXELS),
        chat_template=_template("<|image_pad|>", "<|video_pad|>"),
    )
    _save(folder, tf.VideoLlama3ForConditionalGeneration(config), processor)


def minicpmv4_6(folder: Path) -> None:
    tokenizer = _tokenizer(
        folder,
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    config = tf.MiniCPMV4_6Config(
        text_config={
            "model_type": "qwen3_5_text",
            **TEXT,
            **LINEAR,
            "vocab_size": len(tokenizer),
            "rope_parameters": SECTIONS,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
        },
        insert_layer_id=0,
        image_size=112,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    slices = {"scale_resolution": 112, "max_slice_nums": 2}
    processor = tf.MiniCPMV4_6Processor(
        tf.MiniCPMV4_6ImageProcessor(**slices),
        tf.MiniCPMV4_6VideoProcessor(**slices),
        tokenizer,
        chat_template=_template("<|image_pad|>", "<|video_pad|>"),
    )
    _save(folder, tf.MiniCPMV4_6ForConditionalGeneration(config), processor)


def kimi_k25(folder: Path) -> None:
    tokens = {
        "image": "<|media_pad|>",
        "video": "<|kimi_k25_video_placeholder|>",
        "vision_start": "<|media_begin|>",
        "vision_end": "<|media_end|>",
    }
    tokenizer = _tokenizer(
        folder,
        "<|media_content|>",
        **{f"{name}_token": token for name, token in tokens.items()},
    )
    config = tf.Kimi_K25Config(
        text_config={
            "model_type": "deepseek_v3",
            **TEXT,
            "vocab_size": len(tokenizer),
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
        },
        projection_hidden_size=WIDTH,
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
            for name, token in tokens.items()
        },
        tie_word_embeddings=False,
    )
    size = {"max_height": 8, "max_width": 8}  # in patches
    processor = tf.Kimi_K25Processor(
        tf.Kimi_K25ImageProcessor(size=size, max_patches=32),
        tokenizer,
        tf.Kimi_K25VideoProcessor(size=size, max_patches=32),
        chat_template=_template(
            "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>",
            "<|kimi_k25_video_placeholder|>",
        ),
    )
    _save(folder, tf.Kimi_K25ForConditionalGeneration(config), processor)


BUILDERS: dict[str, Callable[[Path], None]] = {
    builder.__name__: builder
    for builder in (
        qwen3_5,
        qwen3_5_moe,
        gemma4,
        glm46v,
        molmo2,
        ernie4_5_vl_moe,
        video_llama_3,
        minicpmv4_6,
        kimi_k25,
    )
}


def _template(image: str, video: str) -> str:
    return TEMPLATE.replace("IMAGE", image).replace("VIDEO", video)


def _tokenizer(folder: Path, *tokens: str, **named: str) -> PreTrainedTokenizerFast:
    """The rehearsal's tokenizer with further special tokens; ``named`` are its attributes."""
    checkpoint.build(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        **({"bos_token": named.pop("bos_token")} if "bos_token" in named else {}),
    )
    tokenizer.add_special_tokens({"extra_special_tokens": [*tokens]})
    for path in folder.iterdir():
        path.unlink()
    return tokenizer


def _save(folder: Path, model: PreTrainedModel, processor: object) -> None:
    draw(model, processor.tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        torch.manual_seed(0)  # some layers draw what ``draw`` leaves as it is
        BUILDERS[name](Path(sys.argv[1], name))
