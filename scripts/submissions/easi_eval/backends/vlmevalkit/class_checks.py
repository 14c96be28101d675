"""Checks of the chosen VLMEvalKit class.

Covered are engines, keys, arguments, revisions and how VSI-Bench videos are shown.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.model_args import check_number, format_model_args
from ...core.suggest import did_you_mean, nearest
from ..shared.class_source import ClassSource
from ..shared.engines import how_to_get
from ..shared.signature import Signature, signature
from . import class_code
from .api_keys import missing_keys

# Similarity (difflib) from which an unknown name counts as a misspelt known one: max_pixls for
# max_pixels does, top_n for top_p does not.
MISSPELT = 0.85


def check(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse arguments and options that the class would fail on late, or silently ignore.

    Raises:
        EasiError: For an argument, a revision or a ``--vsi-input`` that the class does not take.
    """
    if classes:  # empty if the registry computes the class: then nothing is known about it
        _check_arguments(cfg, model, classes)
        _check_vsi_input(cfg, model, classes)


def check_ready(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse a model that cannot answer on this machine.

    Raises:
        EasiError: If its key or its engine is missing.
    """
    _check_keys(model)
    if classes:
        _check_engine(cfg, model, classes)


def _check_vsi_input(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    if cfg.vsi_input is not None and not class_code.native_video(model, classes):
        if cfg.vsi_input == "video":
            raise EasiError(
                f"--vsi-input video: {model.cls} takes no videos, it sees 32 frames as images",
                hint="leave out --vsi-input",
            )
        raise EasiError(
            f"--vsi-input frames has no effect: {model.cls} always gets frames",
            hint="leave out --vsi-input",
        )


def _check_keys(model: ModelChoice) -> None:
    missing = missing_keys(model.cls, model.arguments) if model.served else []
    if missing:
        raise EasiError(
            f"{model.entry or model.cls} asks a server and needs {' and '.join(missing)}",
            hint=f"set {' and '.join(missing)} in the environment or in .env",
        )


def _check_arguments(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    takes = signature(classes)
    if "revision" in cfg.model_arguments and "revision" not in takes.names:
        raise EasiError(
            f"VLMEvalKit's {model.cls} takes no revision",
            hint="download that revision and give its folder as --model",
        )
    known = _known(takes)
    for name, value in cfg.model_arguments.items():
        check_number(name, value, takes.defaults.get(name), model.cls)
    if "pretrained" in cfg.model_arguments and "pretrained" not in takes.names:
        raise EasiError(
            "--model-args pretrained=: on VLMEvalKit --model names the checkpoint, here "
            f"{model.name}",
            hint=f"write --model {cfg.model_arguments['pretrained']}, or add --backend lmms-eval "
            "for a model type of lmms-eval",
        )
    for name in unknown_arguments(cfg, takes):
        # A class with **kwargs would silently accept a misspelt name.
        if takes.open and not nearest(name, known, n=1, cutoff=MISSPELT):
            continue
        raise EasiError(
            f"--model-args {name}: {model.cls} takes no such argument",
            hint=did_you_mean(
                name, sorted(known), f"it takes {', '.join(sorted(takes.names - {'model_path'}))}"
            ),
        )


def _known(takes: Signature) -> frozenset[str]:
    """Return the arguments that the class is known to use.

    A class with ``**kwargs`` is assumed to pass the sampling settings on.
    """
    return (
        frozenset({*takes.names, *takes.defaults, *class_code.SAMPLING})
        if takes.open
        else takes.names
    )


def unknown_arguments(cfg: RunConfig, takes: Signature) -> list[str]:
    """Return the names among ``--model-args`` that the class is not known to use."""
    return [
        name for name in cfg.model_arguments if name not in _known(takes) and name != "model_path"
    ]


def _check_engine(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse an engine that is not installed; the hint names the alternatives.

    The user chooses among them, because the engine is part of the run's identity.
    """
    package, switch = ("", "") if model.served else class_code.engine(classes, model.arguments)
    if not package or importlib.util.find_spec(package) is not None:
        return
    install = how_to_get(package)
    if not switch:
        raise EasiError(
            f"VLMEvalKit's {model.cls} runs on {package} only, which is not installed", hint=install
        )
    settings = ", ".join(
        f"{name}={value}" for name, value in model.arguments.items() if name in class_code.SAMPLING
    )
    what = f"VLMEvalKit's entry {model.entry}" if model.entry else f"{model.name} ({model.why})"
    without = replace(cfg, model_args=format_model_args({**cfg.model_arguments, switch: "False"}))
    raise EasiError(
        f"{what} runs on {package}"
        + (f" with {settings}" if settings else "")
        + ", and it is not installed",
        hint=f"{install}; or on transformers, with other numbers and under an identity of their "
        f"own: {without.command()}",
    )
