"""A model's files: a folder or a repository of the hub, and its ``config.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...core.errors import EasiError, Unreachable
from ...core.suggest import nearest
from ...data.model_file import fetch_model_file
from ...data.needs import HubSettings, Need
from ...data.weight_files import WEIGHTS
from . import references
from .folder_digest import folder_revision

# Arguments of a model class that name the checkpoint.
CHECKPOINT_KEYS = ("pretrained", "model", "model_id", "model_id_name", "model_path", "path")


OTHER_FORMATS = (
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.pth",
    "original/*",
    "onnx/*",
    "openvino/*",
)


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
        f"{there} is there and has no {path.relative_to(there).parts[0]}; give a folder that is "
        "there, or org/model for the hub"
    )


def model_path(model: str) -> str:
    """Return a folder as an absolute path, because workers run elsewhere; a hub id unchanged."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def model_name(model: str) -> str:
    """Return the checkpoint's display name: a hub id, or the last part of a folder's path."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def weights_need(repo: str, revision: str = "") -> Need:
    """Return the need for a checkpoint of the hub, without the formats of other frameworks."""
    return Need(
        f"model {repo}", repo, revision=revision or "main", repo_type="model", ignore=OTHER_FORMATS
    )


def revision(paths: Iterable[str], asked: str = "") -> str:
    """Return the value of ``ModelChoice.revision``.

    It is the digest of those ``paths`` that are folders, else the revision that was ``asked`` for.
    """
    return "+".join(folder_revision(Path(path)) for path in paths if Path(path).is_dir()) or asked


def is_hub_id(model: str) -> bool:
    """Return whether this has the form ``org/model`` and is not a folder."""
    return (
        re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) is not None
        and not Path(model).expanduser().is_dir()
    )


def files_of(model: str, hub: HubSettings, revision: str = "") -> Path | None:
    """Return the folder with a checkpoint's small files, without asking the hub.

    It is the model's own folder, or the one in the hub's cache that holds its ``config.json`` or
    ``adapter_config.json``; None if neither is there.
    """
    if Path(model).is_dir():
        return Path(model)
    for name in (references.CONFIG, references.ADAPTER) if is_hub_id(model) else ():
        with suppress(EasiError):
            return fetch_model_file(replace(hub, offline=True), model, name, revision).parent
    return None


def model_config(model: str, hub: HubSettings, revision: str = "") -> dict[str, object] | None:
    """Return a checkpoint's ``config.json``; for an adapter without one, that of its base.

    Args:
        model: A folder or a hub id; None is returned for anything else.
        hub: The hub or its cache, for a hub id.
        revision: The revision on the hub.

    Raises:
        EasiError: If a folder has no readable ``config.json``, or the hub refuses the model.
    """
    folder = Path(model_path(model))
    if not folder.is_dir() and not is_hub_id(model):
        return None
    if not folder.is_dir():
        try:
            return _config(fetch_model_file(hub, model, references.CONFIG, revision))
        except Unreachable:
            raise
        except EasiError as error:
            try:
                folder = fetch_model_file(hub, model, references.ADAPTER, revision).parent
            except EasiError:
                raise error from None
    else:
        check_folder(folder)
    adapter = references.bare_adapter(folder)
    return (
        _config(folder / references.CONFIG)
        if adapter is None
        else _base_config(model, adapter, hub)
    )


def _base_config(
    model: str, adapter: references.Adapter, hub: HubSettings
) -> dict[str, object] | None:
    """Return the ``config.json`` of an adapter's base."""
    base = references.base_of(adapter)
    try:
        return model_config(base, hub)
    except EasiError as error:
        raise EasiError(
            f"{model_name(model)} is an adapter of {base}: {error.message}", hint=error.hint
        ) from error


def _config(path: Path) -> dict[str, object]:
    wrong: object = "no JSON object"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    except (OSError, ValueError) as error:
        wrong = error
    raise EasiError(
        f"{path} cannot be read ({wrong})",
        hint="a model folder holds a config.json; is it complete?",
    )
