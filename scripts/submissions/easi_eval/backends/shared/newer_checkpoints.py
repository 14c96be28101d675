"""Checkpoints saved by transformers 5, for processes that run transformers 4.

See ``easi_eval.engine.vlm.transformers5``. This module says what the plan notes on them and what
it refuses. It also makes folders of links that stand for them in processes in which
``engine/vlm/newer_configs.py`` is not at work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...data.model_file import fetch_model_file
from ...data.needs import HubSettings
from ...engine.vlm.transformers5 import has_output_head, of_5, translate, translate_tokenizer
from ..base import Launcher
from . import launch_env, model_files, model_paths
from .references import (
    ADAPTER,
    CONFIG,
    FILES,
    TOKENIZER,
    pointed,
    reached,
    read_object,
    written_references,
)


def notes(
    cfg: RunConfig, model: ModelChoice, repos: Mapping[str, str], hub: HubSettings
) -> tuple[str, ...]:
    """Return lines on the model's checkpoints for plan and manifest.

    A ``config.json`` that cannot be had now is skipped: the worker translates or refuses it when it
    reads it.

    Args:
        cfg: The run's options.
        model: The choice, whose local folders are read.
        repos: Repositories of the hub, each with its revision.
        hub: Where their files are read.

    Raises:
        EasiError: If the installed transformers would compute something else.
    """
    if model.served or not _to_be_translated(cfg, model):
        return ()
    said: list[str] = []
    for name, config, head in _configs(cfg, model, repos, hub):
        made = translate(config, head)
        made.check(name)
        if made.changed:
            _check_place(cfg, name)
        said += [f"{model_paths.model_name(name)} was {line}" for line in made.said()]
    return tuple(dict.fromkeys(said))


def read_as_they_are(cfg: RunConfig, launcher: Launcher, model: ModelChoice) -> bool:
    """Return whether transformers 4 reads the checkpoint in a process that we do not modify."""
    return launcher.reads_unmodified(cfg, model) and _to_be_translated(cfg, model)


def _to_be_translated(cfg: RunConfig, model: ModelChoice) -> bool:
    """Return whether the processes that answer use transformers 4."""
    return not of_5(launch_env.libraries_of(cfg, model.profile).get("transformers", ""))


def _check_place(cfg: RunConfig, name: str) -> None:
    place = str(cfg.output_dir.absolute())
    if cfg.plain and cfg.kind.plain_cuts_at_commas and "," in place:
        raise EasiError(
            f"--plain: {name} was saved by transformers 5 and is converted below {place}, a path "
            f"that {cfg.backend}'s own launch cannot take",
            hint="choose an --output-dir without commas",
        )


def shadows(
    folders: Iterable[Path], snapshots: Mapping[str, Path], target: Path
) -> dict[Path, Path]:
    """Make folders that stand for checkpoints which transformers 4 reads in another form.

    Each holds the translated files and links to all other files. It lies below ``target`` under the
    original's whole path, because many classes read the kind of model from a name in the path.

    Args:
        folders: Checkpoints; all that they refer to is included.
        snapshots: Where checkpoints of the hub are, by repository.
        target: Is removed first.

    Returns:
        The new folder for each checkpoint that needs one.

    Raises:
        EasiError: If something in a checkpoint has no equivalent in transformers 4.
    """
    shutil.rmtree(target, ignore_errors=True)
    named: dict[Path, dict[str, Path]] = {}  # what a folder's files refer to, as they write it
    inside: dict[Path, list[Path]] = {}  # a folder's subfolders with models, in a model in parts
    waiting = list(folders)
    while waiting:
        folder = waiting.pop()
        if folder not in named and folder.is_dir():
            references = [
                (written, to) for written, to in written_references(folder) if not to.code
            ]
            named[folder] = {
                written: snapshots.get(to.name, Path(to.name)) for written, to in references
            }
            inside[folder] = [
                path.parent
                for path in folder.glob(f"*/{CONFIG}")
                if not path.parent.name.startswith((".", "checkpoint-"))
            ]
            waiting += [*named[folder].values(), *inside[folder]]
    files = {folder: _translated(folder) for folder in named}
    needed = {folder for folder, translated in files.items() if translated}
    while more := {
        folder
        for folder in named
        if folder not in needed and needed.intersection([*named[folder].values(), *inside[folder]])
    }:
        needed |= more
    made = {folder: target / folder.relative_to(folder.anchor) for folder in needed}
    for folder, place in made.items():
        place.mkdir(parents=True, exist_ok=True)
        places = {written: made[to] for written, to in named[folder].items() if to in made}
        for path in folder.iterdir():
            config = files[folder].get(path.name) or (
                read_object(path) if path.name in (ADAPTER, *FILES) else {}
            )
            if (text := pointed(config, places)) != config or path.name in files[folder]:
                (place / path.name).write_text(json.dumps(text, indent=2), encoding="utf-8")
            elif path not in made:
                (place / path.name).symlink_to(path)
    return made


def _translated(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the files of a checkpoint that need translation, by name, in translated form."""
    config, tokenizer = read_object(folder / CONFIG), read_object(folder / TOKENIZER)
    made = translate(config, has_output_head(folder))
    made.check(folder)
    forms = {CONFIG: (config, made.config), TOKENIZER: (tokenizer, translate_tokenizer(tokenizer))}
    return {name: new for name, (old, new) in forms.items() if new != old}


def _configs(
    cfg: RunConfig, model: ModelChoice, repos: Mapping[str, str], hub: HubSettings
) -> list[tuple[str, dict[str, Any], bool | None]]:
    """Return name, config.json and ``has_output_head`` of each checkpoint that the model reads."""
    folders = [
        value
        for value in (model.path, *model.arguments.values())
        if isinstance(value, str) and Path(value).is_dir()
    ]
    asked = {name: revision for name, revision in repos.items() if not cfg.is_rehearsed(name)}
    lies = {name: _place(name, asked.get(name, ""), hub) for name in (*folders, *asked)}
    known = [folder for folder in lies.values() if folder is not None]
    for reference in reached(known, lambda reference: lies.get(reference.name)):
        if not reference.code and reference.name not in lies:
            lies[reference.name] = _place(reference.name, "", hub)
    return [
        (name, config, has_output_head(folder))
        for name, folder in lies.items()
        if folder is not None and (config := read_object(folder / CONFIG))
    ]


def _place(name: str, revision: str, hub: HubSettings) -> Path | None:
    """Return ``files_of``, fetching the config if it is not at hand; None if that fails."""
    if (found := model_files.files_of(name, hub, revision)) is None and model_paths.is_hub_id(name):
        with suppress(EasiError, OSError):
            return fetch_model_file(hub, name, CONFIG, revision).parent
    return found
