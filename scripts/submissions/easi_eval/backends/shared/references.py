"""What a checkpoint's files refer to: an adapter's base, a vision tower, code elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .folder_digest import folder_revision

CONFIG, ADAPTER, TOKENIZER = "config.json", "adapter_config.json", "tokenizer_config.json"
BASE = "base_model_name_or_path"
FILES = (
    CONFIG,
    TOKENIZER,
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
# Keys under which a config.json names another checkpoint that its class loads: mm_vision_tower,
# vision_tower_name, speech_encoder ...
_TOWER = re.compile(
    r"(mm_)?(vision|visual|image|video|audio|speech|text|language|llm)_(tower|encoder|model)"
    r"(_name|_path|_name_or_path)?"
)
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
NOT_THERE = "not there"


@dataclass(frozen=True)
class Reference:
    """Another checkpoint that a file refers to.

    Attributes:
        name: A hub id, or the absolute path of a folder.
        code: Whether only its Python files are used.
    """

    name: str
    code: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder it refers to; None for a hub id."""
        return Path(self.name) if Path(self.name).is_absolute() else None


def references(folder: Path) -> list[Reference]:
    """Return what the files in ``folder`` refer to directly, each once.

    A value that is neither a hub id nor a path is not a reference.
    """
    return list(dict.fromkeys(reference for _, reference in written_references(folder)))


def written_references(folder: Path) -> list[tuple[str, Reference]]:
    """Return the same as ``references``, each with the name as it is written in the file."""
    found = [
        (str(base), Reference(located(str(base), folder)))
        for base in (read_object(folder / ADAPTER).get(BASE),)
        if base
    ]
    for name in FILES:
        found += [
            (named.name, reference)
            for named in _named(read_object(folder / name))
            if (reference := _reference(named, folder)) is not None
        ]
    return found


def pointed(value: object, places: Mapping[str, Path]) -> object:
    """Return a config in which the checkpoints in ``places`` are named by their folders there."""
    if isinstance(value, list):
        return [pointed(inner, places) for inner in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: str(places[inner])
        if isinstance(inner, str) and inner in places and (key == BASE or _TOWER.fullmatch(key))
        else pointed(inner, places)
        for key, inner in value.items()
    }


def reached(
    folders: Iterable[Path],
    lies: Callable[[Reference], Path | None] = lambda reference: reference.folder,
) -> Iterator[Reference]:
    """Yield all that checkpoints in local folders refer to, directly or indirectly, each once.

    Args:
        folders: The checkpoints to start from.
        lies: Returns the folder of a reference, whose references are then followed too; None if
            they are not. It is called after the reference was yielded, so the caller may fetch it
            first.
    """
    seen: set[Reference] = set()
    waiting = list(folders)
    while waiting:
        for reference in references(waiting.pop()):
            if reference not in seen:
                seen.add(reference)
                yield reference
                folder = lies(reference)
                waiting += [folder] if folder is not None and folder.is_dir() else []


def referred_to(folders: Iterable[Path]) -> dict[str, str]:
    """Return all that checkpoints in local folders refer to, see ``reached``.

    Returns:
        By name the digest of a folder, or "" for a repository of the hub, whose commit is known
        only after it is fetched.
    """
    return {reference.name: _digest(reference.folder) for reference in reached(folders)}


def _digest(folder: Path | None) -> str:
    if folder is None:
        return ""
    return folder_revision(folder) if folder.is_dir() else NOT_THERE


def located(name: str, folder: Path) -> str:
    """Return a path as an absolute one, and a hub id unchanged.

    A relative path is looked for in the current directory, then in the checkpoint's folder.
    """
    path = Path(name).expanduser()
    for place in (path, folder / path):
        if place.is_dir():
            return str(place.resolve())
    return name if _HUB_ID.fullmatch(name) else str(path.absolute())


def _named(value: object) -> Iterator[Reference]:
    """Yield the references in a config at any depth, with names as they are written."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "auto_map":
                yield from _code(inner)
            elif isinstance(inner, str) and _TOWER.fullmatch(str(key)):
                yield Reference(inner)
            else:
                yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def _code(auto_map: object) -> Iterator[Reference]:
    """Yield the repositories in values such as ``repo--module.Class``.

    A tokenizer has a list of two classes.
    """
    values = (
        auto_map.values()
        if isinstance(auto_map, Mapping)
        else auto_map
        if isinstance(auto_map, list)
        else (auto_map,)
    )
    for value in values:
        for word in value if isinstance(value, list) else (value,):
            if isinstance(word, str) and "--" in word:
                yield Reference(word.split("--")[0], code=True)


def _reference(named: Reference, folder: Path) -> Reference | None:
    if not (_HUB_ID.fullmatch(named.name) or named.name.startswith(("/", ".", "~"))):
        return None  # a name that only the model class can interpret
    return Reference(located(named.name, folder), named.code)


def read_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a file; {} if there is none that can be read.

    An unreadable file is reported when the checkpoint is loaded.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
