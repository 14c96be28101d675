"""What both backends share: the environment of their processes, and reading a model's files."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

from ...config import RunConfig
from ...core.libraries import installed
from ...core.places import cache_folder
from ...core.profiles import own_packages
from ...data.needs import HubSettings
from .catalog import Package, locate

NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
# Older variables for the cache's folder. transformers still prefers them to HF_HUB_CACHE and would
# not find what this program fetched.
OLD_CACHES = ("TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE")


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


def search_path(package: Package, profile: str) -> tuple[str, ...]:
    """Return where a backend's processes look for packages.

    A checkout comes first, then what the profile adds, then this process's path without the user's
    site-packages (the processes run with ``PYTHONNOUSERSITE``).
    """
    first = [str(package.root.parent)] if package.checkout else []
    ours = (folder for folder in sys.path if folder != site.getusersitepackages())
    return (*first, *own_packages(profile), *ours)


def libraries_of(cfg: RunConfig, profile: str) -> Mapping[str, str]:
    """Return the installed versions by name, as the processes that answer find them."""
    return installed(search_path(locate(cfg.kind, cfg.backend_path), profile))


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
