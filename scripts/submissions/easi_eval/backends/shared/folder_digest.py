"""A digest of the weights in a local folder, without reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ...core.errors import EasiError
from ...data.needs import MODEL_FILES

WHOLE = 1 << 20  # files up to this size in bytes are read whole
BLOCK = 64 << 10  # bytes per sample of a larger file
BLOCKS = 8  # samples of a larger file, evenly spread from its start to its end
PREFIX = 8  # a safetensors file begins with the length of its header


def folder_revision(folder: Path) -> str:
    """Return 16 hex digits that identify the model in ``folder``.

    They change when the model is trained again, and stay the same when the folder is copied. The
    digest covers names, sizes and contents of the files; large files are sampled, so that it takes
    about a second for the largest models. Subfolders with a ``config.json`` (a model in parts) are
    included, training checkpoints are not.

    Raises:
        EasiError: If a file cannot be read.
    """
    total = hashlib.sha256()
    for path in _files(folder):
        try:
            size = path.stat().st_size
            total.update(
                f"{path.relative_to(folder).as_posix()}\0{size}\0".encode(errors="surrogateescape")
            )
            for piece in _pieces(path, size):
                total.update(piece)
        except OSError as error:
            raise EasiError(
                f"{path} cannot be read: {error.strerror or error}",
                hint="every file of the model's folder is needed",
            ) from error
    return total.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.suffix in MODEL_FILES:
            yield path
        elif (path / "config.json").is_file() and not path.name.startswith("checkpoint-"):
            yield from _files(path)


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """Yield the contents of a small file, or samples of a large one."""
    with path.open("rb") as file:
        if size <= WHOLE:
            yield file.read()
            return
        if path.suffix == ".safetensors":  # its header: names, shapes and types of tensors
            prefix = file.read(PREFIX)
            yield prefix + file.read(min(int.from_bytes(prefix, "little"), size // 2))
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            yield file.read(BLOCK)
