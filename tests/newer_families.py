"""Checkpoints of families that only transformers 5 knows, tiny and with random weights.

It runs with the Python of profile 5: ``python tests/newer_families.py FAMILY FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from rehearsal_data import checkpoint

WIDTH = 32


def qwen3_5(folder: Path) -> None:
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
    config = Qwen3_5Config(
        text_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 1.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "depth": 1,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 16,
        },
        **ids,
    )
    pictures = Qwen2VLImageProcessor(
        patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    )
    processor = Qwen3VLProcessor(
        pictures, tokenizer, Qwen3VLVideoProcessor(), chat_template=checkpoint.CHAT_TEMPLATE
    )
    _save(folder, Qwen3_5ForConditionalGeneration(config), processor)


BUILDERS: dict[str, Callable[[Path], None]] = {builder.__name__: builder for builder in (qwen3_5,)}


def _tokenizer(folder: Path, *tokens: str) -> PreTrainedTokenizerFast:
    """Write the rehearsal's tokenizer with further special tokens to ``folder``, alone."""
    checkpoint.build(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=[*tokens],
    )
    for path in folder.iterdir():
        path.unlink()
    return tokenizer


def _save(folder: Path, model: PreTrainedModel, processor: object) -> None:
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:  # not those of norms
            # What the layers add must outweigh the last token's own embedding, or all answers
            # would be the same.
            weight.data.normal_(0, 0.02 if "embed_tokens" in name else 0.5)
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    # answers of a few tokens
    model.generation_config.eos_token_id = list(range(0, len(processor.tokenizer), 8))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    BUILDERS[sys.argv[1]](Path(sys.argv[2]))
