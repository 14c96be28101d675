"""What a checkpoint's own files refer to elsewhere: an adapter's base, a vision tower, code in another repository."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EasiError
from .revision import folder_revision

CONFIG, ADAPTER, TOKENIZER = "config.json", "adapter_config.json", "tokenizer_config.json"
BASE = "base_model_name_or_path"
FILES = (
    CONFIG,
    TOKENIZER,
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
# Keys under which a config.json names another checkpoint that its class loads: mm_vision_tower, vision_tower_name, speech_encoder ...
_TOWER = re.compile(
    r"(mm_)?(vision|visual|image|video|audio|speech|text|language|llm)_(tower|encoder|model)(_name|_path|_name_or_path)?"
)
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
NOT_THERE = "not there"


@dataclass(frozen=True)
class Reference:
    """``name``: a hub id, or the absolute path of a folder. ``code``: only Python files of it are used."""

    name: str
    code: bool = False

    @property
    def folder(self) -> Path | None:
        return Path(self.name) if Path(self.name).is_absolute() else None


def references(folder: Path) -> list[Reference]:
    """What the files in ``folder`` refer to directly, each once; what is neither a hub id nor a path is no reference."""
    return list(dict.fromkeys(reference for _, reference in written_references(folder)))


def written_references(folder: Path) -> list[tuple[str, Reference]]:
    """As ``references``, with the name that is written in the file."""
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
    """A config that names the checkpoints which are keys of ``places`` by their folders there."""
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
    """All that checkpoints in local folders refer to, and what that refers to, each once.

    ``lies`` is asked where a reference lies after it was given out, which may have fetched it; None: it is not followed.
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
    """What ``reached`` finds: by name the digest of a folder, "" for a repository of the hub, whose commit is known once it was fetched."""
    return {reference.name: _digest(reference.folder) for reference in reached(folders)}


def _digest(folder: Path | None) -> str:
    if folder is None:
        return ""
    return folder_revision(folder) if folder.is_dir() else NOT_THERE


def located(name: str, folder: Path) -> str:
    """A path as an absolute one, looked for from where the program was started and from the checkpoint's folder; a hub id as it is."""
    path = Path(name).expanduser()
    for place in (path, folder / path):
        if place.is_dir():
            return str(place.resolve())
    return name if _HUB_ID.fullmatch(name) else str(path.absolute())


@dataclass(frozen=True)
class Adapter:
    """A folder with an adapter and no config.json: ``base`` is what transformers lays it over, a folder or a hub id ("": not told)."""

    folder: Path
    base: str


def bare_adapter(folder: Path) -> Adapter | None:
    """None where the folder has a config.json, or no adapter_config.json."""
    if (folder / CONFIG).is_file() or not (folder / ADAPTER).is_file():
        return None
    base = str(read_object(folder / ADAPTER).get(BASE) or "")
    return Adapter(folder, located(base, folder) if base else "")


def base_of(adapter: Adapter) -> str:
    """What an adapter is laid over. Raises EasiError where it does not say, or the folder is not there."""
    where = adapter.folder / ADAPTER
    if not adapter.base:
        raise EasiError(
            f"{adapter.folder} holds an adapter, and its {ADAPTER} names no base",
            hint=f"write the base's hub id or folder into {BASE} of {where}",
        )
    if Path(adapter.base).is_absolute() and not Path(adapter.base).is_dir():
        raise EasiError(
            f"{adapter.folder} holds an adapter of {adapter.base}, and that folder is not there",
            hint=f"write the base's hub id or folder into {BASE} of {where}",
        )
    return adapter.base


def lay_out(adapter: Adapter, base: Path, target: Path) -> None:
    """Make ``target`` a folder that a class loads as one checkpoint: links to the adapter's files, and of its base's to config,
    processor, tokenizer and code where the adapter has none of that name. adapter_config.json names ``base`` by its path.
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


def _named(value: object) -> Iterator[Reference]:
    """References in a config, at any depth; names as they are written."""
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
    """The repositories in ``repo--module.Class``; a tokenizer has a list of two classes."""
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
        return None  # a name that only the class knows
    return Reference(located(named.name, folder), named.code)


def read_object(path: Path) -> dict[str, object]:
    """A JSON object; {} where there is none that can be read: whoever loads the checkpoint says so."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
