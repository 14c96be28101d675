"""What both backends share: the environment of their processes, and reading a model's files."""

from __future__ import annotations

import ast
import json
import os
import re
import site
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..config import RunConfig
from ..data.needs import HubSettings, Need, Unreachable
from ..data.weights import WEIGHTS
from ..errors import EasiError
from ..libraries import installed
from ..nearest import nearest
from ..state import cache_folder
from . import references
from .catalog import Package, locate
from .revision import folder_revision

REPOSITORY = Path(__file__).resolve().parents[4]
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
# Older variables for the cache's folder. transformers still prefers them to HF_HUB_CACHE and would
# not find what this program fetched.
OLD_CACHES = ("TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE")
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


def environment(hub: HubSettings, package: Package) -> dict[str, str]:
    """Return the variables that every process of a backend gets. None of them is a secret."""
    env = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(hub.hf_home),
        **dict.fromkeys(OLD_CACHES, ""),
        **written_cache(hub, "HF_MODULES_CACHE", "modules"),  # transformers' copies of remote code
    }
    if hub.cache is not None:
        env["HF_HUB_CACHE"] = str(hub.cache)
    if hub.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if package.checkout:
        env["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(package.root.parent), os.environ.get("PYTHONPATH")])
        )
    return env


def written_folder(hub: HubSettings, name: str) -> Path:
    """Return a folder for written files: in ``HF_HOME`` if writable, else in the user's cache."""
    shared = hub.hf_home / name
    there = next(folder for folder in (shared, *shared.parents) if folder.exists())
    return shared if os.access(there, os.W_OK | os.X_OK) else cache_folder() / name


def written_cache(hub: HubSettings, variable: str, name: str) -> dict[str, str]:
    """Return ``variable`` with a writable folder, for a library whose cache is ``HF_HOME/name``.

    Empty if ``HF_HOME/name`` is writable or the user has set the variable.
    """
    folder = written_folder(hub, name)
    return (
        {} if folder.parent == hub.hf_home or os.environ.get(variable) else {variable: str(folder)}
    )


def search_path(package: Package) -> tuple[str, ...]:
    """Return where a backend's processes look for packages.

    A checkout comes first, then this process's path without the user's site-packages (the processes
    run with ``PYTHONNOUSERSITE``).
    """
    first = [str(package.root.parent)] if package.checkout else []
    return (*first, *(folder for folder in sys.path if folder != site.getusersitepackages()))


def libraries_of(cfg: RunConfig) -> Mapping[str, str]:
    """Return the installed versions by name, as the backend's processes find them."""
    return installed(search_path(locate(cfg.kind, cfg.backend_path)))


def other_device(cfg: RunConfig) -> str | None:
    """Return ``--device`` if it is not the default: ``cuda`` and no option mean the same."""
    return None if cfg.device_kind == "cuda" else cfg.device_kind


def answering(cfg: RunConfig, workers: int) -> dict[str, str]:
    """Return the variables that workers get in addition to ``environment``.

    With ``--device cpu`` they see no GPU, so that no model class can use one.
    """
    return {**threads(workers), **(NO_GPU if cfg.device == "cpu" else {})}


def threads(workers: int) -> dict[str, str]:
    """Return the number of threads of each worker: its share of the cores, at most 8.

    With torchrun's default of one thread, image decoding is a bottleneck. A number that the user
    set is kept. Of a list for nested levels the first number is taken, which torch uses too;
    accelerate accepts a single number only. Other values are ignored, as OpenMP does.
    """
    outer = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if outer.isdecimal() and int(outer) > 0:
        return {"OMP_NUM_THREADS": outer}
    return {"OMP_NUM_THREADS": str(max(1, min(8, len(os.sched_getaffinity(0)) // workers)))}


def literal(text: str) -> object:
    """Return the value of a ``--model-args`` part: a Python or JSON literal, else the text."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_number(name: str, value: str, default: object, whose: str) -> None:
    """Refuse a text where the class's own default is a number.

    ``batch_size`` is left out, because backends accept words such as ``auto`` there.

    Raises:
        EasiError: If the value is not a number.
    """
    if (
        isinstance(default, int | float)
        and not isinstance(default, bool)
        and not name.startswith("batch_size")
        and isinstance(literal(value), str)
    ):
        raise EasiError(
            f"--model-args {name}={value} is not a number",
            hint=f"{whose} has {name}={default} by default",
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


def absolute_paths(args: Sequence[str], options: Container[str]) -> list[str]:
    """Return ``args`` with the values of these options, which are paths, made absolute.

    Both ``--o V`` and ``--o=V`` are recognised. The workers run in another folder.
    """
    made: list[str] = []
    for word in args:
        option, equals, value = word.partition("=")
        if equals and option in options:
            made.append(f"{option}={Path(value).expanduser().absolute()}")
        else:
            made.append(
                str(Path(word).expanduser().absolute()) if made and made[-1] in options else word
            )
    return made


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
    from ..datasets import fetch_model_file

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
        from ..datasets import fetch_model_file

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
