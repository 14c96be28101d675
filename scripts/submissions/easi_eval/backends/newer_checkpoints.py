"""What the plan says of checkpoints that transformers 5 saved, and what it refuses; see ``easi_eval.transformers5``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..benchmarks import LMMS_EVAL
from ..config import RunConfig
from ..data.needs import HubSettings
from ..datasets import fetch_model_file
from ..errors import EasiError
from ..model import ModelChoice
from ..transformers5 import has_output_head, translate
from . import common


def notes(cfg: RunConfig, model: ModelChoice, repos: Iterable[str], hub: HubSettings) -> tuple[str, ...]:
    """Lines for plan and manifest on the model's folders and on ``repos`` of the hub, with what adapters among them lie over.

    Raises EasiError for what the installed transformers would compute differently. A config.json that cannot be had now
    is left to the worker, which translates or refuses it as it reads it.
    """
    if model.served:
        return ()
    said: list[str] = []
    for name, config, head in _configs(cfg, model, repos, hub):
        made = translate(config, head)
        made.check(name)
        if made.changed:
            _check_process(cfg, model, name)
        said += [f"{common.model_name(name)} was {line}" for line in made.said()]
    return tuple(dict.fromkeys(said))


def _check_process(cfg: RunConfig, model: ModelChoice, name: str) -> None:
    """Refuse what reads the config.json in a process of its own, where nothing is translated."""
    reader = model.engine or ("`python -m lmms_eval`, which --plain starts as it is," if cfg.plain and cfg.backend == LMMS_EVAL else "")
    if reader:
        raise EasiError(f"{name} was saved by transformers 5, and {reader} reads its config.json in the form of transformers 4: other numbers without an error",
                        hint="choose a model type that runs on transformers, without --plain" if model.engine else "leave out --plain")


def _configs(cfg: RunConfig, model: ModelChoice, repos: Iterable[str], hub: HubSettings) -> list[tuple[str, dict[str, Any], bool | None]]:
    """Name, config.json and ``has_output_head`` of each checkpoint that the model reads."""
    folders = [value for value in (model.path, *model.arguments.values()) if isinstance(value, str) and Path(value).is_dir()]
    queue = list(dict.fromkeys([*folders, *([] if cfg.smoke else repos)]))      # the rehearsal's hub is not up yet
    found = []
    for name in queue:      # grows by the bases of adapters
        if config := _read(name, "config.json", model.revision, hub):
            found.append((name, config, has_output_head(Path(name))))
        base = (_read(name, "adapter_config.json", "", hub) or {}).get("base_model_name_or_path") if Path(name).is_dir() else None
        if isinstance(base, str) and base not in queue and (Path(base).is_dir() or common.is_hub_id(base)):
            queue.append(base)
    return found


def _read(name: str, file: str, revision: str, hub: HubSettings) -> dict[str, Any] | None:
    """A file of a folder or of the hub (its cache first), where it can be read now."""
    try:
        path = Path(name) / file if Path(name).is_dir() else _of_hub(name, file, revision, hub)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (EasiError, OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _of_hub(name: str, file: str, revision: str, hub: HubSettings) -> Path:
    try:
        return fetch_model_file(replace(hub, offline=True), name, file, revision)
    except EasiError:
        return fetch_model_file(hub, name, file, revision)
