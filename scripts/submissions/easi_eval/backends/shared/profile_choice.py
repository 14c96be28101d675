"""Which libraries a model is loaded with: those of the base, or of profile 5.

Profile 5 is for what transformers 4 cannot load: a type that only 5 has, or a checkpoint saved by 5
that 4 cannot be given exactly. Everything else stays with 4, because Python code that a checkpoint
or a backend brings was written for it: 5 leaves buffers of such code without values, and the
answers are wrong without an error.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.libraries import installed
from ...core.model import ModelChoice
from ...core.profiles import BASE, NEWER, image_text_types, own_packages
from ...data.needs import HubSettings
from ...engine.vlm.transformers5 import translate
from . import model_files, model_paths
from .class_source import ClassSource
from .signature import signature


def with_profile(
    cfg: RunConfig, model: ModelChoice, classes: Sequence[ClassSource], hub: HubSettings
) -> ModelChoice:
    """Return the choice with its profile, and a note where that is not the base.

    A checkpoint whose config cannot be had now stays with the base. Models on a server and in an
    engine do too: this program does not load them.

    Args:
        cfg: The run's options.
        model: The choice.
        classes: Sources of its class and that class's bases.
        hub: Where the config of a checkpoint is read.
    """
    config: Mapping[str, object] = {}
    # During ``--smoke`` the local hub is not running yet.
    if not (model.served or model.engine or (cfg.smoke and model_paths.is_hub_id(model.path))):
        asked = "" if Path(model.path).is_dir() else model.revision
        # First what is at hand: the choice of the class may just have fetched it.
        for where in (replace(hub, offline=True), hub):
            with suppress(EasiError):
                config = model_files.model_config(model.path, where, asked) or {}
                break
    why = needs_newer(config, runs_own_code(cfg, config, classes))
    if not why:
        return model
    said = f"loaded with transformers {installed(own_packages(NEWER))['transformers']}: {why}"
    return replace(model, profile=NEWER, notes=(*model.notes, said))


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
        return f"only that has model_type {kind}"
    refused = translate(config).refused
    return f"it was saved by that, and 4 has nothing for {'; '.join(refused)}" if refused else ""


def runs_own_code(
    cfg: RunConfig, config: Mapping[str, object], classes: Sequence[ClassSource]
) -> bool:
    """Return whether Python code of the checkpoint runs: it has some, and the class takes it."""
    return bool(config.get("auto_map")) and (
        cfg.trust_remote_code
        or signature(classes).defaults.get("trust_remote_code") is True
        or any(
            isinstance(node, ast.keyword)
            and node.arg == "trust_remote_code"
            and isinstance(node.value, ast.Constant)
            and node.value.value is True
            for each in classes
            for node in each.code()
        )
    )
