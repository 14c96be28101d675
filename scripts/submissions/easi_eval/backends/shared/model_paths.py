"""Names of models as users give them: folders, and repositories of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from ...core.errors import EasiError
from ...core.suggest import nearest
from ...data.weight_files import WEIGHTS

# Arguments of a model class that name the checkpoint.
CHECKPOINT_KEYS = ("pretrained", "model", "model_id", "model_id_name", "model_path", "path")


def is_missing_path(model: str) -> bool:
    """Return whether this can only be a path, and nothing is there."""
    return (model.startswith(("/", "./", "../", "~")) or model in (".", "..")) and not Path(
        model
    ).expanduser().exists()


LOADABLE = (*WEIGHTS, ".gguf")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is known to hold no loadable model; the message says what it holds.

    Raises:
        EasiError: For training checkpoints (DeepSpeed, FSDP, ``checkpoint-N`` folders) and GGUF
            files.
    """
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not folder.is_dir() or "adapter_config.json" in names:
        return
    parts = sorted(name for name in names if re.fullmatch(r"checkpoint-\d+", name))
    sharded = "zero_to_fp32.py" in names or any(name.startswith("global_step") for name in names)
    loadable = [name for name in names if name.endswith(LOADABLE)]
    if sharded and not loadable:
        raise EasiError(
            f"{folder} holds a DeepSpeed (ZeRO) training checkpoint, not a model",
            hint=f"put its weights together first: cd {folder} && python zero_to_fp32.py . merged, "
            "copy config.json and the tokenizer's files beside them, and evaluate that folder",
        )
    if not loadable and any(
        name.endswith(".distcp") or (folder / name / ".metadata").is_file() for name in names
    ):
        raise EasiError(
            f"{folder} holds a sharded (FSDP) training checkpoint, not a model",
            hint="merge it first: accelerate merge-weights SHARDS OUTPUT",
        )
    if "config.json" in names:
        return
    if parts:
        newest = max(parts, key=lambda name: int(name.rpartition("-")[2]))
        raise EasiError(
            f"{folder} holds the checkpoints of a training run, not a model",
            hint=f"name one of them: {folder / newest}",
        )
    if loadable and all(name.endswith(".gguf") for name in loadable):
        raise EasiError(
            f"{folder} holds GGUF files, which neither backend loads",
            hint="give the checkpoint in the format of transformers, or serve it",
        )


def folder_hint(model: str) -> str:
    """Return a hint for a missing folder: the nearest name, or the part of the path that exists."""
    path = Path(model).expanduser().absolute()
    there = next(folder for folder in path.parents if folder.is_dir())
    try:
        beside = [each.name for each in there.iterdir() if each.is_dir()]
    except OSError:
        beside = []
    if near := nearest(path.relative_to(there).parts[0], beside, n=1):
        return f"did you mean {there / near[0]}?"
    return (
        f"{there} has no {path.relative_to(there).parts[0]}; give an existing folder, or "
        f"org/model for the hub"
    )


def model_path(model: str) -> str:
    """Return a folder as an absolute path, because workers run elsewhere; a hub id unchanged."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def model_name(model: str) -> str:
    """Return the checkpoint's display name: a hub id, or the last part of a folder's path."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def is_hub_id(model: str) -> bool:
    """Return whether this has the form ``org/model`` and is not a folder."""
    return (
        re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) is not None
        and not Path(model).expanduser().is_dir()
    )
