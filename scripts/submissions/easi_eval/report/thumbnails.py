"""Small pictures of the questions that the report shows first, from data on this machine."""

from __future__ import annotations

import base64
import glob
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MOST = 120  # pictures; each takes some hundredths of a second
ROOM = 600_000  # bytes of all of them as base64
SIDE = 192  # pixels
_LARGEST = 40 << 20  # bytes of a file
_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def media_roots(dataset_dir: Path, hf_home: Path, hub_cache: Path) -> tuple[Path, ...]:
    """Return the folders below which backends keep images and frames."""
    patterns = (
        (dataset_dir, "images/*"),
        (hub_cache, "datasets--*/snapshots/*"),
        (hf_home, "*"),
    )
    found = (
        path for folder, pattern in patterns for path in sorted(folder.absolute().glob(pattern))
    )
    return (dataset_dir.absolute(), *(path for path in found if path.is_dir()))


def thumbnails(names: Iterable[str], roots: Sequence[Path]) -> Mapping[str, str]:
    """Return a JPEG as base64 for each name whose file is below one of the folders.

    Args:
        names: What the backend's files call the images and videos, most important first.
        roots: Folders to search.
    """
    from concurrent.futures import ThreadPoolExecutor

    paths = {name: path for name in names if (path := find(name, roots)) is not None}
    chosen = dict(list(paths.items())[:MOST])
    made: dict[str, str] = {}
    size = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for name, data in zip(chosen, pool.map(_small, chosen.values()), strict=True):
            size += len(data)
            if data and size <= ROOM:
                made[name] = data
    return made


def find(name: str, roots: Sequence[Path]) -> Path | None:
    """Return the image of that name, or one of the frames of the video, below a folder.

    A name that leads out of all folders finds nothing.
    """
    for root in roots:
        path = Path(os.path.normpath(root / name))
        if "\0" in name or not path.is_relative_to(root):
            continue
        if path.is_dir():
            frames = [one for one in sorted(path.iterdir()) if _is_image(one)]
            if frames:
                return frames[len(frames) // 2]
        elif _is_image(path):
            return path
        elif not path.suffix and path.parent.is_dir():  # the number of a question
            stem = glob.escape(path.name)
            found = [*path.parent.glob(f"{stem}.*"), *path.parent.glob(f"{stem}_*.*")]
            if images := sorted(filter(_is_image, found)):
                return images[0]
    return None


def _is_image(path: Path) -> bool:
    try:
        return path.suffix.lower() in _ENDINGS and 0 < path.stat().st_size < _LARGEST
    except OSError:
        return False


def _small(path: Path) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            image.thumbnail((SIDE, SIDE))
            made = io.BytesIO()
            image.convert("RGB").save(made, "JPEG", quality=60)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return base64.b64encode(made.getvalue()).decode()
