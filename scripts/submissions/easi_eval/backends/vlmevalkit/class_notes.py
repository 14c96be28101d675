"""The lines on the chosen VLMEvalKit class for plan and manifest."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ...benchmarks import VLMEVALKIT
from ...config import RunConfig
from ...core.model import ModelChoice
from ..shared.class_source import ClassSource
from ..shared.signature import signature
from . import class_code
from .class_checks import unknown_arguments


def notes(
    cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource], generic: bool
) -> tuple[str, ...]:
    """Return the lines on the class for plan and manifest.

    They tell how tokens are sampled, whether remote code runs, which attention is used, arguments
    whose effect is unknown, the engine, and how VSI-Bench is shown.

    Args:
        cfg: The run's options.
        model: The choice.
        classes: The class and its bases; empty if they are not known.
        generic: Whether it is the generic class; remote code and attention are then left out.
    """
    said = [sampling(cfg, model, classes)]
    package = "" if model.served else class_code.engine(classes, model.arguments)[0]
    if not model.served and not generic:
        if class_code.trusts_remote_code(classes, package):
            said.append(
                f"{model.cls} runs the checkpoint's own Python code (it sets "
                f"trust_remote_code=True)"
            )
        if (
            not package
            and class_code.asks_flash_attention(classes)
            and importlib.util.find_spec("flash_attn") is None
        ):
            said.append(
                f"flash-attn is not installed: {model.cls} asks for flash_attention_2 and is "
                "loaded with sdpa"
            )
    if unknown := unknown_arguments(cfg, signature(classes)) if classes else []:
        said.append(f"{model.cls} accepts any argument; it may ignore {', '.join(unknown)}")
    if package:
        said.append(f"{package} answers, not transformers")
    if any(
        bench.source(VLMEVALKIT).vsi_input for bench in cfg.selected
    ) and class_code.native_video(model, classes):
        said.append(
            "VSI-Bench: 32 frames as images (--vsi-input frames)"
            if cfg.vsi_input == "frames"
            else "VSI-Bench: native video, this backend's default for this class; --vsi-input "
            "frames gives 32 frames as images (EASI recommends that for SenseNova-SI-Qwen)"
        )
    return tuple(said)


def sampling(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> str:
    """Return one line: the settings that decide how tokens are sampled, each with its source."""
    package = "" if model.served else class_code.engine(classes, model.arguments)[0]
    written = class_code.hard_coded(classes, package)
    defaults = signature(classes).defaults
    given = {name: value for name, value in model.arguments.items() if name in class_code.SAMPLING}
    parts = [
        ({name: given[name] for name in given if name in cfg.model_arguments}, "--model-args"),
        (
            {name: given[name] for name in given if name not in cfg.model_arguments},
            f"entry {model.entry}" if model.entry else "settings taken",
        ),
        (
            {name: value for name, value in written.items() if name not in given},
            f"in the code of {model.cls}",
        ),
        (
            {
                name: value
                for name, value in defaults.items()
                if name in class_code.SAMPLING
                and value is not None
                and name not in {**given, **written}
            },
            f"defaults of {model.cls}",
        ),
    ]
    words = [
        f"{', '.join(f'{name}={value}' for name, value in values.items())} ({where})"
        for values, where in parts
        if values
    ]
    rest = (
        "what the server does"
        if model.served
        else "what the class and the checkpoint's generation_config say"
    )
    return f"sampling: {'; '.join([*words, f'everything else is {rest}' if words else rest])}"
