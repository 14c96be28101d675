"""Find the weights of a checkpoint that would be loaded, and which of their shards are missing."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

pass

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


def missing_weights(there: Mapping[str, Path]) -> str:
    """Return a missing shard of the weights that would be loaded, "" if none is missing."""
    for folder, names in judged(_by_folder(there)).items():
        index = chosen(names)
        if index.endswith(INDEX):
            for name in shards(there[folder + index]) or ():
                if name not in names:
                    return folder + name
        elif not index and (absent := missing_shard([folder + name for name in names], (1, 0))):
            return absent
    return ""


def missing_shard(there: Collection[str], firsts: Sequence[int]) -> str:
    """Return a missing shard by the numbers in the names of the others, "" if none is missing.

    Args:
        there: The paths of the present files.
        firsts: The numbers with which the count of shards may begin.
    """
    for path in sorted(there):
        if shard := re.fullmatch(r"(.*-)(\d+)(-of-)(\d+)(\.[^/]*)", path):
            before, number, of, count, after = shard.groups()
            counted = [
                [
                    f"{before}{index:0{len(number)}}{of}{count}{after}"
                    for index in range(first, first + int(count))
                ]
                for first in firsts
            ]
            lacking = [
                [name for name in names if name not in there] for names in counted if path in names
            ]
            if lacking and all(lacking):
                return min(lacking, key=len)[0]
    return ""


def _by_folder(paths: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of the files in each folder; a folder is "" or ends with a slash."""
    folders: dict[str, set[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        folders.setdefault(folder + slash, set()).add(name)
    return folders
