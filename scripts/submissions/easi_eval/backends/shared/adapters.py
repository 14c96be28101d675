"""Adapters and other checkpoints that a model refers to, as part of the chosen model.

Also decides which model classes can load an adapter on top of its base model.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...data.needs import HubSettings
from .adapter_folder import bare_adapter, base_of
from .class_source import ClassSource
from .model_files import files_of
from .model_paths import CHECKPOINT_KEYS, is_hub_id
from .references import referred_to

# Endings of classes whose ``from_pretrained`` does not load the model's weights.
NO_MODELS = ("Tokenizer", "TokenizerFast", "Processor", "Config", "FeatureExtractor")


def checkpoints(model: ModelChoice) -> list[str]:
    """Return the folders and hub ids that the model's class is given."""
    given = (model.path, *(model.arguments.get(key) for key in CHECKPOINT_KEYS))
    return [
        name
        for name in dict.fromkeys(map(str, filter(None, given)))
        if Path(name).is_dir() or is_hub_id(name)
    ]


def with_references(model: ModelChoice, hub: HubSettings) -> ModelChoice:
    """Return the choice with the checkpoints that its local checkpoints refer to.

    If the model is an adapter without a ``config.json``, ``base`` is set and a note says how to
    submit it.

    Args:
        model: The choice; a served model is returned unchanged.
        hub: Where the small files of an adapter from the hub are looked up, in the cache only.

    Raises:
        EasiError: If the base of an adapter is not given or is not there.
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
    note = (
        f"an adapter of {base}, loaded with transformers and peft; to submit it: "
        f'"weightType": "Adapter", "baseModel": "{told}"'
    )
    return replace(model, base=base, notes=(*model.notes, note))


def with_base(model: ModelChoice, repo: str, path: Path) -> ModelChoice:
    """Return the choice with its base in the folder ``path``, if ``repo`` is that base."""
    return replace(model, base=str(path)) if repo == model.base else model


def check_adapter(model: ModelChoice, classes: Sequence[ClassSource]) -> None:
    """Refuse an adapter that the class does not load on top of its base.

    Args:
        model: The choice; nothing is checked if it has no ``base``.
        classes: The class and its bases, see ``lineage``; empty if they are not known.

    Raises:
        EasiError: If an engine runs the model, the class does not use ``from_pretrained``, or peft
            is not installed.
    """
    if not model.base:
        return
    if model.engine:
        raise refuse_adapter(model, f"{model.engine} does not apply it to its base")
    # The generic class loads its model in another module of this repository.
    ours = any(source.module.startswith("easi_") for source in classes)
    if classes and not ours and not loads_pretrained(classes):
        raise refuse_adapter(
            model, f"{model.cls} loads its weights by other means than from_pretrained"
        )
    if importlib.util.find_spec("peft") is None:
        raise EasiError(
            f"{model.name} is an adapter, and peft is not installed",
            hint="run: bash scripts/setup.sh",
        )


def loads_pretrained(classes: Sequence[ClassSource]) -> bool:
    """Return whether the class loads its model, not only a processor, by ``from_pretrained``.

    That method of transformers loads an adapter on top of its base.
    """
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and not ast.unparse(node.func.value).endswith(NO_MODELS)
        for source in classes
        for node in source.code()
    )


def refuse_adapter(model: ModelChoice, why: str) -> EasiError:
    """Return the error for a class that cannot load an adapter: why, and how to merge it."""
    merge = (
        "from peft import PeftModel; "
        "from transformers import AutoModelForImageTextToText as M, AutoProcessor as P; "
        f"PeftModel.from_pretrained(M.from_pretrained('{model.base}', dtype='auto'), "
        f"'{model.path}').merge_and_unload().save_pretrained('merged'); "
        f"P.from_pretrained('{model.base}').save_pretrained('merged')"
    )
    return EasiError(
        f"{model.name} is an adapter of {model.base}, and {why}",
        hint=f'merge it first: python -c "{merge}", then give the folder merged',
    )
