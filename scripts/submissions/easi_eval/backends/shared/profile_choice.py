"""Which libraries a model is loaded with: those of the base, or of profile 5.

Profile 5 is for what transformers 4 cannot load: a type that only 5 has, or a checkpoint saved by 5
that 4 cannot be given exactly. Everything else stays with 4, because Python code that a checkpoint
or a backend brings was written for it: 5 leaves buffers of such code without values, and the
answers are wrong without an error.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.libraries import installed, module_file
from ...core.model import ModelChoice
from ...core.profiles import BASE, NEWER, config_types, image_text_types, own_packages, processors
from ...data.needs import HubSettings
from ...engine.vlm.transformers5 import translate, written_by_5
from . import model_files, references
from .class_fits import check_type, names_in
from .class_source import ClassSource
from .signature import signature


def with_profile(
    cfg: RunConfig,
    model: ModelChoice,
    classes: Sequence[ClassSource],
    hub: HubSettings,
    otherwise: str,
) -> ModelChoice:
    """Return the choice with its profile, and a note where that is not the base.

    A checkpoint whose config cannot be had now stays with the base. Models on a server and in an
    engine do too: this program does not load them.

    Args:
        cfg: The run's options.
        model: The choice.
        classes: Sources of its class and that class's bases.
        hub: Where the config of a checkpoint is read.
        otherwise: The hint how the generic class runs the checkpoint.

    Raises:
        EasiError: This class cannot load it, or only transformers 5 can, but not with the Python
            code that it brings.
    """
    if model.served or model.engine or cfg.is_rehearsed(model.path):
        return model
    asked = "" if Path(model.path).is_dir() else model.revision
    config: Mapping[str, object] = {}
    # First what is at hand: the choice of the class may just have fetched it.
    for where in (replace(hub, offline=True), hub):
        with suppress(EasiError):
            config = model_files.model_config(model.path, where, asked) or {}
            break
    trusted = _trusts(cfg, model, classes)
    brought = config.get("auto_map") if trusted else None
    why = needs_newer(config, bool(brought))
    if not (why or brought) and written_by_5(config):
        why = _newer_processor(model_files.configs(model.path, hub, asked))
    names = set() if model.source else names_in(classes)
    kind = str(config.get("model_type"))
    newer = kind in image_text_types(NEWER) and kind not in image_text_types(BASE)
    if isinstance(brought, Mapping) and newer and names and not names & brought.keys():
        raise _own_code_refused(cfg, model, references.CONFIG, otherwise)
    profile = NEWER if why else BASE
    if not brought:
        check_type(model, names, kind, profile, otherwise)
    if not why:
        return model
    for file, held in model_files.configs(model.path, hub, asked) if trusted else ():
        if held.get("auto_map"):
            raise _own_code_refused(cfg, model, file, otherwise)
    said = f"loaded with transformers {installed(own_packages(NEWER))['transformers']}: {why}"
    return replace(model, profile=profile, notes=(*model.notes, said))


def needs_newer(config: Mapping[str, object], own_code: bool) -> str:
    """Return why only transformers 5 can load a checkpoint; "" if 4 can, or neither.

    Args:
        config: Its ``config.json``; nothing is known of it if it is empty.
        own_code: Whether Python code of the checkpoint would run.
    """
    kind = config.get("model_type")
    if own_code or kind not in image_text_types(NEWER):
        return ""
    if kind not in image_text_types(BASE):
        return f"only this version has model_type {kind}"
    if parts := _newer_parts(config):
        return f"only this version has {' and '.join(parts)}"
    refused = translate(config).refused
    what = "; ".join(refused)
    return f"it was saved by this version, and 4 cannot read {what}" if refused else ""


def _newer_parts(config: Mapping[str, object]) -> list[str]:
    """Return the parts of a config (``text_config``) that are of a type that only 5 has.

    That matters to families whose parts may be of any type.
    """
    kind = str(config["model_type"]).replace("-", "_")
    source = module_file(f"transformers.models.{kind}.configuration_{kind}")
    if source is None or "CONFIG_MAPPING[" not in source.read_text(encoding="utf-8"):
        return []
    newer = config_types(NEWER).keys() - config_types(BASE).keys()
    return [
        f"{part} of model_type {inner['model_type']}"
        for part, inner in config.items()
        if isinstance(inner, Mapping) and inner.get("model_type") in newer
    ]


def _newer_processor(configs: Iterable[tuple[str, Mapping[str, object]]]) -> str:
    """Return why only 5 has the processor that the configs name; "" if 4 has it, or neither."""
    newer = processors(NEWER) - processors(BASE)
    return next(
        (
            f"only that has {held['processor_class']} (processor_class in {name})"
            for name, held in configs
            if held.get("processor_class") in newer
        ),
        "",
    )


def _trusts(cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource]) -> bool:
    """Return whether the class lets Python code of a checkpoint run."""
    takes = {**signature(classes).defaults, **model.arguments}.get("trust_remote_code")
    return (
        cfg.trust_remote_code
        or str(takes) == "True"
        or any(
            isinstance(node, ast.keyword)
            and node.arg == "trust_remote_code"
            and isinstance(node.value, ast.Constant)
            and node.value.value is True
            for each in classes
            for node in each.code()
        )
    )


def _own_code_refused(cfg: RunConfig, model: ModelChoice, file: str, otherwise: str) -> EasiError:
    return EasiError(
        f"{model.name} needs transformers 5, and its own Python code (auto_map in {file}) would "
        "run: code written for 4 fails there, or leaves values unset without an error",
        hint="leave out --trust-remote-code: transformers has classes of its own for it"
        if cfg.trust_remote_code
        else otherwise,
    )
