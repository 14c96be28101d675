"""Free space and permissions of a file system."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..core.errors import EasiError, is_full


def existing_parent(path: Path) -> Path:
    """Return ``path`` if it exists, else its nearest existing parent."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def refuse_unwritable(place: Path) -> None:
    """Refuse a place that cannot be written to.

    The check makes a folder there, because permissions alone do not tell (for example on a
    read-only mount). A full disk passes; free space is checked separately.

    Raises:
        EasiError: Nothing can be written there.
    """
    folder = existing_parent(place)
    try:
        Path(tempfile.mkdtemp(prefix=".easi-", dir=folder)).rmdir()
    except OSError as error:
        if is_full(error):
            return
        why = "it is a file" if folder.is_file() else error.strerror or str(error)
        raise EasiError(
            f"nothing can be written to {folder}: {why}",
            hint="set HF_HOME or --dataset-dir to another folder",
        ) from error


def free_bytes(path: Path) -> int:
    """Return the free bytes of the file system where ``path`` is or would be."""
    return shutil.disk_usage(existing_parent(path)).free


def gigabytes(count: int) -> str:
    """Format a number of bytes as decimal gigabytes, or as megabytes below 0.1 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
