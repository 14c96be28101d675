"""Folders with an adapter and no config.json, and the base they name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import EasiError
from .references import ADAPTER, BASE, CONFIG, located, read_object


@dataclass(frozen=True)
class Adapter:
    """A folder with an adapter and no ``config.json``.

    Attributes:
        folder: The adapter's folder.
        base: The folder or hub id of its base; "" if the adapter does not name one.
    """

    folder: Path
    base: str


def bare_adapter(folder: Path) -> Adapter | None:
    """Return the adapter in ``folder``; None if there is none, or it has a ``config.json``."""
    if (folder / CONFIG).is_file() or not (folder / ADAPTER).is_file():
        return None
    base = str(read_object(folder / ADAPTER).get(BASE) or "")
    return Adapter(folder, located(base, folder) if base else "")


def base_of(adapter: Adapter) -> str:
    """Return the folder or hub id of an adapter's base.

    Raises:
        EasiError: If the adapter names no base, or the base's folder is not there.
    """
    where = adapter.folder / ADAPTER
    if not adapter.base:
        raise EasiError(
            f"{adapter.folder} holds an adapter, but its {ADAPTER} names no base model",
            hint=f"write the base's hub id or folder into {BASE} of {where}",
        )
    if Path(adapter.base).is_absolute() and not Path(adapter.base).is_dir():
        raise EasiError(
            f"{adapter.folder} holds an adapter of {adapter.base}, and that folder is not there",
            hint=f"write the base's hub id or folder into {BASE} of {where}",
        )
    return adapter.base


def lay_out(adapter: Adapter, base: Path, target: Path) -> None:
    """Make ``target`` a folder that a class loads as one checkpoint.

    It holds links to the adapter's files, and to the base's config, processor, tokenizer and code
    where the adapter has no file of that name. Its ``adapter_config.json`` names ``base`` by its
    path.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        path.unlink()
    small = [
        path
        for path in base.iterdir()
        if path.suffix in (".json", ".txt", ".model", ".py", ".jinja")
        and ".index." not in path.name
    ]
    for path in {
        path.name: path for path in (*small, *adapter.folder.iterdir()) if path.is_file()
    }.values():
        (target / path.name).symlink_to(path.resolve())
    (target / ADAPTER).unlink()
    (target / ADAPTER).write_text(
        json.dumps({**read_object(adapter.folder / ADAPTER), BASE: str(base)}, indent=2),
        encoding="utf-8",
    )
