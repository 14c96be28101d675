"""Find the weights of a checkpoint that would be loaded: one file, or the shards of an index."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")  # file extensions
# transformers loads the first of these that exists. Inference engines prefer an index to a single
# file of the same format.
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
OTHER_FIRST = "ema.safetensors"  # the class of BAGEL loads it before all of these


def chosen(names: Collection[str], sets: Iterable[str] = ()) -> str:
    """Return the first of ``sets`` among the names of a folder's files, "" if there is none.

    ``sets`` defaults to those of an adapter if the folder has an adapter config, else to ``SETS``.
    """
    sets = sets or (ADAPTER_SETS if ADAPTER in names else SETS)
    return next((name for name in sets if name in names), "")


def judged(folders: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
    """Return the folders whose weights would be loaded.

    This is the top folder ("") or, if it has no weights, each folder with a config, as in a model
    of several parts. Checkpoints of a training (``checkpoint-*``) are not loaded.

    Args:
        folders: Names of the files by folder; a folder is "" or ends with a slash.
    """
    root = folders.get("", ())
    if OTHER_FIRST in root:
        return {}
    if any(name.endswith(WEIGHTS) for name in root) or chosen(root):
        return {"": root}
    return {
        folder: names
        for folder, names in folders.items()
        if CONFIG in names and not folder.startswith("checkpoint-")
    }


def shards(index: Path) -> list[str] | None:
    """Return each file that an index names, once; None if it is no index or cannot be read."""
    try:
        value = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        return None
    return sorted(set(names.values()))
