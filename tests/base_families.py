"""Tiny checkpoints of families that both profiles know, whose answers depend on the pictures.

``python tests/base_families.py FOLDER FAMILY ...``
"""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoTokenizer

import checkpoints
from random_weights import draw

# By model_type the builder, and the spread of its weights: the attention of those that do not
# normalise queries would see one token only.
SPREADS = {
    "qwen2_5_vl": ("qwen2_5_vl", 0.2),
    "qwen3_vl": ("qwen3_vl", 0.5),
    "llava_onevision": ("llava_onevision", 0.2),
    "idefics3": ("smolvlm", 0.2),
    "smolvlm": ("smolvlm2", 0.2),
}


def build(folder: Path, family: str) -> None:
    builder, spread = SPREADS[family]
    checkpoints.BUILDERS[builder](folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    draw(model, AutoTokenizer.from_pretrained(folder), spread)
    model.save_pretrained(folder)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        build(Path(sys.argv[1], name), name)
