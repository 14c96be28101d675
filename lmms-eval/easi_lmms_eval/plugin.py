"""Models that this package adds to lmms-eval.

lmms-eval finds them through the entry point group ``lmms_eval.models``.
"""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest


def manifests() -> list[ModelManifest]:
    """Return the names of the models; a model's module is imported when the model is asked for."""
    return [
        ModelManifest(model_id="easi_vlm", chat_class_path="easi_lmms_eval.generic.EasiVLM"),
        ModelManifest(model_id="easi_served", chat_class_path="easi_lmms_eval.served.EasiServed"),
    ]
