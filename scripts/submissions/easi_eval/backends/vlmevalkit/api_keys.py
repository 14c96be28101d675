"""Environment variables from which the classes of ``vlmeval.api`` read keys (ms-vlmeval 0.0.20).

All variables of a class must be set. A class that is not listed needs no key, or gets it from its
entry in the registry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

KEYS: Mapping[str, tuple[str, ...]] = {
    "ARM_thinker": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "BedrockAPI": (),  # AWS's own credential chain: profile, role, variables
    "BlueLM_API": ("BLUELM_API_KEY",),
    "CWWrapper": ("CW_API_KEY", "CW_API_BASE"),
    "DoubaoVL": ("DOUBAO_VL_KEY",),
    "GCPVertexAPI": ("GOOGLE_CLOUD_PROJECT",),
    "GLMVisionAPI": ("GLMV_API_KEY",),
    "HunyuanVision": ("HUNYUAN_SECRET_KEY", "HUNYUAN_SECRET_ID"),
    "KimiVLAPI": ("KIMI_VL_API_KEY",),
    "LMDeployAPI": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "MiniMaxAPI": ("MINIMAX_API_KEY",),
    "Qwen2VLAPI": ("DASHSCOPE_API_KEY",),
    "QwenVLAPI": ("DASHSCOPE_API_KEY",),
    "RBdashMMChat3_API": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "RBdashChat3_5_API": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "RBdashMMChat3_5_38B_API": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "RBdashMMChat3_78B_API": ("LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE"),
    "Reka": ("REKA_API_KEY",),
    "SenseChatVisionAPI": ("SENSENOVA_API_KEY",),
    "SiliconFlowAPI": ("SiliconFlow_API_KEY",),
    "TaichuVLRAPI": ("TAICHU_API_KEY",),
    "TaiyiAPI": ("TAIYI_API_KEY",),
    "TeleMMAPI": ("SiliconFlow_API_KEY",),
    "TogetherAPI": ("TOGETHER_API_KEY",),
    "bailingMMAPI": ("BAILINGMM_API_KEY",),
}
# GPT4V is the client of several services. A word in the model's name tells which; the first match
# counts.
OF_GPT4V = (
    ("step", "STEPAI_API_KEY"),
    ("yi-vision", "YI_API_KEY"),
    ("internvl2-pro", "InternVL2_PRO_KEY"),
    ("abab", "MiniMax_API_KEY"),
    ("moonshot", "MOONSHOT_API_KEY"),
    ("grok", "XAI_API_KEY"),
    ("ernie", "BAIDU_API_KEY"),
)


def missing_keys(
    cls: str, arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the variables that a class of ``vlmeval.api`` needs and that are not set.

    An address or project given as an argument (``api_base``, ``project_id``) replaces its variable.
    """
    given = {
        name
        for name, value in (
            ("API_BASE", arguments.get("api_base")),
            ("CLOUD_PROJECT", arguments.get("project_id")),
        )
        if value
    }
    return [
        name
        for name in _needed(cls, arguments, environ)
        if not environ.get(name) and not any(name.endswith(end) for end in given)
    ]


def _needed(
    cls: str, arguments: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[str, ...]:
    if any(arguments.get(name) for name in ("key", "api_key", "secret_key")):
        return ()
    model = str(arguments.get("model", ""))
    if cls == "GPT4V":
        if arguments.get("use_azure"):
            return ("AZURE_OPENAI_API_KEY",)
        if "gemini" in model and "preview" in model:
            return ("GOOGLE_API_KEY",)
        return (next((key for word, key in OF_GPT4V if word in model), "OPENAI_API_KEY"),)
    if cls == "Claude3V":
        official = (
            environ.get("ANTHROPIC_BACKEND") == "official" or arguments.get("backend") == "official"
        )
        return ("ANTHROPIC_API_KEY",) if official else ("ALLES",)
    if cls == "Gemini":
        backend = environ.get("GOOGLE_API_BACKEND") or arguments.get("backend", "genai")
        return ("GOOGLE_API_KEY",) if backend == "genai" else ()
    return KEYS.get(cls, ())
