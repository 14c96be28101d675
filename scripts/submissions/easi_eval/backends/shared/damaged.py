"""Detects incomplete weights in a local folder: a copy or a download that was interrupted.

Only sizes, headers and indexes are read, and only of files that would be loaded: a folder may also
hold leftovers and weights in other formats.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...data.weight_files import ADAPTER_SETS, ENGINE_SETS, INDEX, OTHER_FIRST, SETS, shards
from .adapters import checkpoints
from .model_paths import LOADABLE
from .references import ADAPTER, CONFIG, reached, read_object

# Arguments that make a class load other files than those checked here.
CHOOSING = frozenset({"variant", "subfolder", "use_safetensors", "gguf_file", "load_format"})
LFS = b"version https://git-lfs"
ZIP = b"PK\x03\x04"  # torch.save's format; its older one records no sizes to compare with
# A safetensors file is 8 bytes with the header's length (little endian), the header in JSON, and
# the weights.
PREFIX = 8
LONGEST_HEADER = 100_000_000  # the safetensors library refuses a longer one
NAMED = 3


def check(model: ModelChoice) -> None:
    """Refuse a model whose local weights are damaged, including those of a base or a tower.

    Raises:
        EasiError: Names the first damaged file and the number of others.
    """
    # A class of the user's own (``source``) may load any files.
    if model.served or model.source or CHOOSING & model.arguments.keys():
        return
    for folder in _folders(Path(name) for name in checkpoints(model)):
        wrong = damage(folder, ENGINE_SETS if model.engine else SETS)
        if wrong:
            more = f"; {len(wrong) - 1} more of its files are damaged" if len(wrong) > 1 else ""
            lfs = "run `git lfs pull` in its folder, or " if "Git LFS" in wrong[0] else ""
            raise EasiError(
                f"{wrong[0]}{more}",
                hint=f"{lfs}copy or download the checkpoint again, with every file complete",
            )


def damage(folder: Path, sets: Iterable[str] = SETS) -> list[str]:
    """Return what is wrong with the weights in ``folder`` that would be loaded.

    Args:
        folder: The checkpoint.
        sets: File names of weights or of an index, in the order in which they are looked for.

    Returns:
        A line for each damaged file. Empty if there is none, or no weights are found.
    """
    if (folder / OTHER_FIRST).exists():
        return []
    # transformers and peft load an adapter and its base, whatever else is in the folder.
    if (folder / ADAPTER).is_file():
        sets = ADAPTER_SETS
    elif (explicit := read_object(folder / CONFIG).get("transformers_weights")) and isinstance(
        explicit, str
    ):
        sets = (explicit,)
    names = list(sets)
    chosen = next((folder / name for name in names if (folder / name).is_file()), None)
    if chosen is None:
        links = [folder / name for name in names if (folder / name).is_symlink()]
        parts = [] if links or _holds_weights(folder) else _parts(folder)
        return [f"{path} {_missing(path)}" for path in links[:1]] + [
            line for part in parts for line in damage(part, sets)
        ]
    if not chosen.name.endswith(INDEX):
        return [f"{chosen} {wrong}" for wrong in [_damage(chosen)] if wrong]
    named_shards = shards(chosen)
    if named_shards is None:
        return [f"{chosen} cannot be read as a list of the checkpoint's files"]
    parts = [folder / name for name in named_shards]
    absent = [shard for shard in parts if not shard.is_file()]
    if absent:
        named = ", ".join(shard.name for shard in absent[:NAMED]) + (
            ", ..." if len(absent) > NAMED else ""
        )
        are = "is" if len(absent) == 1 else "are"
        return [
            f"{chosen} names {len(parts)} files, and {len(absent)} of them {are} not there: {named}"
        ]
    return [f"{shard} {wrong}" for shard in parts if (wrong := _damage(shard))]


def _folders(named: Iterable[Path]) -> list[Path]:
    """Return the folders among ``named``, and those whose weights they refer to."""
    folders = [path for path in named if path.is_dir()]
    found = reached(folders, lambda reference: None if reference.code else reference.folder)
    weights = [reference.folder for reference in found if not reference.code]
    return list(dict.fromkeys([*folders, *(path for path in weights if path and path.is_dir())]))


def _parts(folder: Path) -> list[Path]:
    """Return the subfolders of a checkpoint in parts, which has no weights of its own."""
    return [
        path
        for path in sorted(folder.iterdir())
        if (path / CONFIG).is_file() and not path.name.startswith("checkpoint-")
    ]


def _holds_weights(folder: Path) -> bool:
    return any(path.suffix in LOADABLE for path in folder.iterdir())


def _missing(path: Path) -> str:
    return f"is a link to {path.readlink()}, which is not there"


def _damage(path: Path) -> str:
    """Return what is wrong with one file of weights; "" if nothing is, or it cannot be told."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(LFS))
            if not size:
                return "is empty"
            if start == LFS:
                return f"is a Git LFS pointer of {size} bytes, not the weights"
            if path.suffix == ".safetensors":
                file.seek(0)
                length = int.from_bytes(file.read(PREFIX), "little")
                return _of_header(
                    size, length, file.read(length) if length <= min(size, LONGEST_HEADER) else b""
                )
        if start.startswith(ZIP) and not zipfile.is_zipfile(path):
            return f"is cut: {size:,} bytes are there, and the list of contents at its end is not"
    except OSError:  # computing the folder's digest reports it
        return ""
    return ""


def _of_header(size: int, length: int, header: bytes) -> str:
    """Return what is wrong with a safetensors file, from its size and its header.

    Args:
        size: The size of the file in bytes.
        length: The length of the header according to the file's first 8 bytes.
        header: The header itself; empty if it cannot be there in full.
    """
    unreadable = f"has {size:,} bytes and no header of a safetensors file"
    if size < PREFIX or length > LONGEST_HEADER:
        return unreadable
    if PREFIX + length > size:
        return f"is cut: {size:,} bytes are there, and its header alone has {length:,}"
    try:
        entries = json.loads(header)
        end = max(
            (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"),
            default=0,
        )
        whole = PREFIX + length + int(end)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return unreadable
    if size == whole:
        return ""
    return (
        f"is {'cut' if size < whole else 'damaged'}: {size:,} bytes are there, and its header "
        f"says {whole:,}"
    )
