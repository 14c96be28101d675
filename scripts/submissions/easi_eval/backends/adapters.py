"""Adapters and what else a checkpoint refers to, as part of the chosen model; which classes lay an adapter over its base."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..data.needs import HubSettings
from ..errors import EasiError
from ..model import ModelChoice
from . import class_code
from .common import CHECKPOINT_KEYS, files_of, is_hub_id
from .references import bare_adapter, base_of, referred_to
from .sources import ClassSource


def checkpoints(model: ModelChoice) -> list[str]:
    """The folders and hub ids that the model's class is given."""
    given = (model.path, *(model.arguments.get(key) for key in CHECKPOINT_KEYS))
    return [
        name
        for name in dict.fromkeys(map(str, filter(None, given)))
        if Path(name).is_dir() or is_hub_id(name)
    ]


def with_references(model: ModelChoice, hub: HubSettings) -> ModelChoice:
    """The choice with what its local checkpoints refer to; an adapter that is laid over a base is told.

    ``hub``: its cache, where an adapter of the hub has left its small files. Raises EasiError for an adapter whose base cannot be told.
    """
    if model.served:
        return model
    names = checkpoints(model)
    model = replace(
        model, refers_to=referred_to(Path(name) for name in names if Path(name).is_dir())
    )
    revision = str(model.arguments.get("revision", ""))
    folders = filter(None, (files_of(name, hub, revision) for name in names))
    adapter = next(filter(None, map(bare_adapter, folders)), None)
    if adapter is None:
        return model
    base = base_of(adapter)
    told = base if is_hub_id(base) else Path(base).name
    note = f'an adapter of {base}, which transformers and peft lay it over; to submit it: "weightType": "Adapter", "baseModel": "{told}"'
    return replace(model, base=base, notes=(*model.notes, note))


def with_base(model: ModelChoice, repo: str, path: Path) -> ModelChoice:
    """The same choice; if ``repo`` is what an adapter is laid over, with the base in the folder ``path``."""
    return replace(model, base=str(path)) if repo == model.base else model


def check_adapter(model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse an adapter that the class would not lay over its base."""
    if not model.base:
        return
    if model.engine:
        raise refuse_adapter(model, f"{model.engine} does not lay it over its base")
    ours = any(
        source.module.startswith("easi_") for source in classes
    )  # the generic class, which loads by another module of ours
    if classes and not ours and not class_code.loads_pretrained(classes):
        raise refuse_adapter(
            model, f"{model.cls} loads its weights by other means than from_pretrained"
        )
    if importlib.util.find_spec("peft") is None:
        raise EasiError(
            f"{model.name} is an adapter, and peft is not installed",
            hint="run: bash scripts/setup.sh",
        )


def refuse_adapter(model: ModelChoice, why: str) -> EasiError:
    """For a class that cannot lay an adapter over its base: the reason, and how to merge the two."""
    merge = (
        "from peft import PeftModel; from transformers import AutoModelForImageTextToText as "
        "M, AutoProcessor as P; "
        f"PeftModel.from_pretrained(M.from_pretrained('{model.base}', dtype='auto'), "
        f"'{model.path}').merge_and_unload().save_pretrained('merged'); "
        f"P.from_pretrained('{model.base}').save_pretrained('merged')"
    )
    return EasiError(
        f"{model.name} is an adapter of {model.base}, and {why}",
        hint=f'merge it first: python -c "{merge}", then give the folder merged',
    )
