"""Write a checkpoint of random weights, as large as a real one or tiny.

It runs with the Python of the profile that knows the family, given FAMILY and FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from random_weights import ENDS
from rehearsal_data import checkpoint

# What a config.json of the tiny form gets instead, of its text part and of its vision part.
QWEN2_5_VL_7B = (
    {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "max_window_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    },
    {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
)
QWEN3_5_9B = (
    {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "vocab_size": 248320,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
        },
    },
    {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "out_hidden_size": 4096,
        "num_position_embeddings": 2304,
    },
)
SIZES = {"qwen2_5_vl": QWEN2_5_VL_7B, "qwen3_5": QWEN3_5_9B}


def build_tiny(family: str, folder: Path) -> None:
    """Write the tests' tiny checkpoint of a family."""
    if family == "qwen2_5_vl":
        checkpoint.build(folder)
    else:
        import newer_families  # only transformers 5 has what it imports

        newer_families.BUILDERS[family](folder)


def enlarge(family: str, folder: Path) -> None:
    """Give a tiny checkpoint the size of a real one, in bfloat16."""
    text, vision = SIZES[family]
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.get("text_config", config).update(text)
    config["vision_config"].update(vision)
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(folder), dtype=torch.bfloat16
        )
    ends = range(0, text["vocab_size"], ENDS)
    model.generation_config.update(eos_token_id=list(ends), pad_token_id=0)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="as the tests have it")
    asked = parser.parse_args()
    build_tiny(asked.family, asked.folder)
    if not asked.tiny:
        enlarge(asked.family, asked.folder)


if __name__ == "__main__":
    main()
