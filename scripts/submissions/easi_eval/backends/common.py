"""What both backends' launches share: the environment of their processes, and what a model's own files say about it."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

from ..data.needs import HubSettings, Need
from ..errors import EasiError
from .catalog import Package

REPOSITORY = Path(__file__).resolve().parents[4]
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
OTHER_FORMATS = ("*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.pth", "original/*", "onnx/*", "openvino/*")


def environment(hub: HubSettings, package: Package) -> dict[str, str]:
    """What every process of a backend gets beside our own environment. No secret is in it."""
    env = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(hub.hf_home),
    }
    if hub.cache is not None:
        env["HF_HUB_CACHE"] = str(hub.cache)
    if hub.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if package.checkout:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package.root.parent), os.environ.get("PYTHONPATH")]))
    return env


def threads(nproc: int) -> dict[str, str]:
    """Each worker its share of the cores, the scorer one: torchrun's default of one thread makes image decoding wait.

    A number that the user set stays.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return {}
    cores = len(os.sched_getaffinity(0))
    return {"OMP_NUM_THREADS": str(max(1, min(8, (cores - 1) // nproc)))}


def literal(text: str) -> object:
    """The value of a ``--model-args`` part: a Python or JSON literal where it is one, else the text."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def model_path(model: str) -> str:
    """A folder as an absolute path (the workers run elsewhere), a hub id as it is."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def model_name(model: str) -> str:
    """The checkpoint's name for people: a hub id, or the last part of a folder's path."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def weights_need(repo: str) -> Need:
    """A checkpoint of the hub, once and not also in the formats of other frameworks."""
    return Need(f"model {repo}", repo, repo_type="model", ignore=OTHER_FORMATS)


def is_hub_id(model: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not Path(model).expanduser().is_dir()


def model_type(model: str, hub: HubSettings) -> str | None:
    """``model_type`` of a checkpoint's config.json; None if it has none. Reads a folder, else the hub or its cache.

    Raises EasiError when a folder has no readable config.json, or the hub refuses the model.
    """
    folder = Path(model_path(model))
    if folder.is_dir():
        return _model_type(folder / "config.json")
    if not is_hub_id(model):
        return None
    from ..datasets import fetch_model_file

    return _model_type(fetch_model_file(hub, model, "config.json"))


def _model_type(config: Path) -> str | None:
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError) as error:
        raise EasiError(f"{config} cannot be read ({error})", hint="a model folder holds a config.json; is it complete?") from error
