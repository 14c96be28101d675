"""The models this package adds to lmms-eval, found by it through the entry point group ``lmms_eval.models``."""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest


def manifests() -> list[ModelManifest]:
    """Names only: a model's module is imported when it is asked for."""
    return [ModelManifest(model_id="easi_vlm", chat_class_path="easi_lmms_eval.generic.EasiVLM")]
