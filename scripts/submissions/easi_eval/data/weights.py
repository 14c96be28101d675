"""Which of a checkpoint's files would be loaded: one, or the shards that an index names."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

# In the order in which transformers takes the first that is there. An engine prefers an index to a
# file of the same kind.
SETS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ENGINE_SETS = (SETS[1], SETS[0], SETS[3], SETS[2])
ADAPTER_SETS = ("adapter_model.safetensors", "adapter_model.bin")
INDEX = ".index.json"
ADAPTER, CONFIG = "adapter_config.json", "config.json"
OTHER_FIRST = "ema.safetensors"  # one class (BAGEL) takes it before all of these


def chosen(names: Collection[str], sets: Iterable[str] = ()) -> str:
    """The first of ``sets`` among the names of a folder's files; "" if there is none."""
    sets = sets or (ADAPTER_SETS if ADAPTER in names else SETS)
    return next((name for name in sets if name in names), "")


def judged(
    folders: Mapping[str, Collection[str]], endings: tuple[str, ...]
) -> dict[str, Collection[str]]:
    """The folders whose weights are loaded: the first (""), or its parts where it has none.

    The checkpoints of a training are none.
    """
    root = folders.get("", ())
    if OTHER_FIRST in root:
        return {}
    if any(name.endswith(endings) for name in root) or chosen(root):
        return {"": root}
    return {
        folder: names
        for folder, names in folders.items()
        if CONFIG in names and not folder.startswith("checkpoint-")
    }


def shards(index: Path) -> list[str] | None:
    """Each file that an index names, once; None for what is no index, or cannot be read."""
    try:
        value = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        return None
    return sorted(set(names.values()))
