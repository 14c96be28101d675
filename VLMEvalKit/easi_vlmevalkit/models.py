"""How a planned model is built."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from easi_eval.core.model import ModelChoice

from . import own_models


def model_factory(model: ModelChoice) -> Callable[..., Any]:
    """Return a callable that builds the planned model.

    The model is an entry of VLMEvalKit's registry, one of its classes with a checkpoint path, the
    user's own class (``file.Class``), or our class ``EasiVLM`` or ``EasiServed``.
    """
    from vlmeval.config import supported_VLM

    from vlmeval import api, vlm

    if model.entry:
        return functools.partial(supported_VLM[model.entry], **model.arguments)
    if "." in model.cls:
        return own_models.factory(model.cls, model.path, model.arguments)
    if model.cls == "EasiVLM":
        from .generic import EasiVLM

        arguments: dict[str, Any] = {"model_path": model.path, **model.arguments}
        return functools.partial(EasiVLM, **arguments)
    if model.cls == "EasiServed":
        from .served import EasiServed

        options: dict[str, Any] = model.arguments
        return functools.partial(EasiServed, model.path, **options)
    cls = getattr(vlm, model.cls, None) or getattr(api, model.cls)
    return functools.partial(cls, **{"model_path": model.path, **model.arguments})


def build_registered(factory: Callable[..., Any], use_vllm: bool = False, **options: Any) -> Any:
    """Call ``factory`` without ``use_vllm`` unless it is set.

    VLMEvalKit's own loop passes ``use_vllm`` to every model with Qwen2.5-VL (or Qwen2-VL, Llama-4)
    in its name, also to classes that do not take it.
    """
    return factory(**options, **({"use_vllm": True} if use_vllm else {}))


def build_whole(build: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what ``build`` makes of the arguments.

    Raises:
        EasiError: Some of the model's weights are in no file of the checkpoint, or are not finite.
    """
    from easi_eval.engine.vlm.finite import refuse_nonfinite
    from easi_eval.engine.vlm.missing_weights import refusing_missing_weights

    with refusing_missing_weights():
        model = build(*args, **options)
    refuse_nonfinite(model)
    return model
