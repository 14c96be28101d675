"""Loading of a checkpoint's processor and model, with checks that it can be used here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from ...core.errors import EasiError
from ...core.libraries import decisive, installed
from .missing_weights import refusing_missing_weights

PARTS_OF_CONFIGS = ("text_config", "llm_config", "vision_config")
HOLDERS = ("model", "_model", "vlm", "language_model", "llm")


def check_loadable(path: str, where: Mapping[str, object]) -> None:
    """Check that a checkpoint is an image-text-to-text model, before its weights are read.

    Args:
        path: Hub id or folder.
        where: ``revision`` and ``trust_remote_code`` for transformers.

    Raises:
        EasiError: transformers cannot load it as a model of images and text.
    """
    unreadable = EasiError(
        f"{path} has no valid config.json",
        hint="give a hub id or a folder with a complete checkpoint",
    )
    try:
        plain, _ = PretrainedConfig.get_config_dict(path, **where)
    except OSError as error:
        raise unreadable from error
    if not plain:  # what transformers gives for a folder without one
        raise unreadable
    kind = plain.get("model_type", "unknown")
    brings_code = "AutoModelForImageTextToText" in plain.get("auto_map", {})
    if brings_code and where["trust_remote_code"]:
        return
    try:
        config = AutoConfig.for_model(kind)
    except ValueError as error:
        # For a type that transformers knows, the checkpoint's own code is not needed.
        if brings_code:
            raise EasiError(
                f"{path} has its own Python code", hint="read it, then add --trust-remote-code"
            ) from error
        raise EasiError(
            f"{path} is of type {kind!r}, which the installed transformers does not know",
            hint="choose the backend's own class for it with --model-args",
        ) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise EasiError(
            f"{path} is of type {kind!r}, "
            "which transformers does not load as a model of images and text",
            hint="choose the backend's own class for it with --model-args",
        )


def load_processor(path: str, where: Mapping[str, object], options: Mapping[str, object]) -> Any:
    """Load a processor for images and text, with a chat template and padding on the left.

    Args:
        path: Hub id or folder.
        where: ``revision`` and ``trust_remote_code`` for transformers.
        options: Options of the processor.

    Raises:
        EasiError: The processor does not load, or has no image processor or template for images.
    """
    try:
        processor = AutoProcessor.from_pretrained(path, **where, **options)
    except (OSError, ValueError) as error:
        raise EasiError(
            f"the processor of {path} cannot be loaded: {error}",
            hint="the checkpoint needs its preprocessor and tokenizer files",
        ) from error
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None or getattr(processor, "image_processor", None) is None:
        raise EasiError(
            f"{path} has no image processor",
            hint="the generic class needs a processor for images and text",
        )
    if not getattr(processor, "chat_template", None):
        # Older checkpoints keep the template with the tokenizer. A template that never mentions
        # images would drop them silently.
        if "image" not in str(getattr(tokenizer, "chat_template", None) or ""):
            raise EasiError(
                f"{path} has no chat template for images",
                hint="choose the backend's own class for it with --model-args",
            )
        processor.chat_template = tokenizer.chat_template
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def load_model(
    path: str, where: Mapping[str, object], device: str | None, dtype: str, attention: str | None
) -> Any:
    """Load the whole model onto accelerators, or onto the CPU.

    See ``GenericVLM`` for ``device`` and ``dtype``.

    Raises:
        EasiError: Weights are missing, or do not fit on the accelerators.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None and accelerator is not None and torch.accelerator.device_count() > 1:
        target: str | dict[str, str] = "auto"
    else:
        target = {"": device or (accelerator.type if accelerator is not None else "cpu")}
    arguments: dict[str, object] = {"dtype": dtype, "device_map": target, **where}
    on_cpu = target == {"": "cpu"}
    if on_cpu and dtype == "auto":
        arguments["dtype"] = "float32"  # half precision is slow or missing on CPUs
    if attention is not None:
        arguments["attn_implementation"] = attention
    with refusing_missing_weights():
        model = AutoModelForImageTextToText.from_pretrained(path, **arguments)
    if not on_cpu:
        refuse_spilled(model)
    return model.eval()


def refuse_spilled(model: Any) -> None:
    """Refuse a model with weights outside the accelerators, where a run would take days.

    On a machine without a visible accelerator nothing is refused: there the CPU is intended.

    Args:
        model: A model, or a backend's object around one.

    Raises:
        EasiError: Parts of the model are on the CPU or on disk.
    """
    places = spilled(model)
    if places and torch.accelerator.is_available():
        raise EasiError(
            "the model does not fit on the visible accelerators: "
            f"parts of it went to {' and '.join(places)}",
            hint="use fewer workers (--nproc), so that each sees more GPUs, or a smaller dtype",
        )


def spilled(model: Any) -> list[str]:
    """Which of "cpu" and "disk" hold parts of a model that was spread over devices."""
    return sorted({place for part in _parts(model) for place in _places(part)} & {"cpu", "disk"})


def made_with(model: Any) -> dict[str, str]:
    """Versions of the libraries that decide answers, and the attention in use.

    Workers write this to their journal (``Loaded``).
    """
    found = decisive(installed(tuple(sys.path)))
    used = attention_used(model)
    return {**found, "attention": used} if used else found


def attention_used(model: Any) -> str:
    """The attention implementation of a transformers model, for example ``sdpa``.

    If its parts differ, all names joined with "+"; "" if the model does not tell.
    """
    configs = [
        config for part in _parts(model) if (config := getattr(part, "config", None)) is not None
    ]
    inner = [
        part
        for config in configs
        for name in PARTS_OF_CONFIGS
        if (part := getattr(config, name, None)) is not None
    ]
    used = {getattr(config, "_attn_implementation", None) for config in (*configs, *inner)}
    return "+".join(sorted(str(name) for name in used if name))


def _parts(model: Any) -> list[Any]:
    """The object and the models it holds under the attribute names of both backends."""
    inner = [found for name in HOLDERS if (found := getattr(model, name, None)) is not None]
    return [
        model,
        *inner,
        *(
            found
            for part in inner
            for name in HOLDERS
            if (found := getattr(part, name, None)) is not None
        ),
    ]


def _places(part: Any) -> set[str]:
    """The devices in a model's device map; empty without a map."""
    placed = getattr(part, "hf_device_map", None)
    return {str(place) for place in placed.values()} if isinstance(placed, Mapping) else set()
