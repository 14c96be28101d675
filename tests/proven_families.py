"""The families that e2e/test_families.py proves, by profile, with the names of model_type."""

from __future__ import annotations

from easi_eval.core.profiles import BASE, NEWER

PROVEN = {
    BASE: ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "idefics3", "smolvlm"),
    NEWER: (
        "qwen3_5",
        "qwen3_5_moe",
        "gemma4",
        "glm46v",
        "molmo2",
        "ernie4_5_vl_moe",
        "video_llama_3",
        "minicpmv4_6",
        "kimi_k25",
    ),
}
# Those of them without native video.
PICTURES_ONLY = ("idefics3",)
# lmms-eval's own types that are proven too, for pictures.
OWN = ("qwen3_5", "gemma4")
