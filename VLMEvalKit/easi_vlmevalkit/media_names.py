"""Names for images and videos whose extension is missing or wrong."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Extensions by Pillow's format name. Other formats are named .png: readers recognise a picture by
# its content.
_PICTURES = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
}
_VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")


def trusting_types(guess: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``preproc_content`` that takes the types of local files as they are stated.

    Other messages go to ``guess``, the method of the model class.
    """

    @functools.wraps(guess)
    def preproc_content(self: Any, inputs: Any) -> Any:
        if not (isinstance(inputs, list) and inputs and all(map(_is_known, inputs))):
            return guess(self, inputs)
        for part in inputs:
            if part["type"] != "text":
                part["value"] = named_by_content(part["value"], part["type"])
        return inputs

    return preproc_content


def _is_known(part: Any) -> bool:
    """Return whether a part is a text, or an image or video that is a local file.

    URLs and base64 images are left to VLMEvalKit.
    """
    if not (isinstance(part, dict) and isinstance(part.get("value"), str)):
        return False
    return part.get("type") == "text" or (
        part.get("type") in ("image", "video") and Path(part["value"]).is_file()
    )


def named_by_content(path: str, kind: str) -> str:
    """Return a path to the file whose extension fits its content.

    Args:
        path: The file.
        kind: ``image`` or ``video``.

    Returns:
        ``path`` itself if its extension is one of this kind or its content is not recognised, else
        a symbolic link to it in VLMEvalKit's data folder.
    """
    ending = Path(path).suffix.lower()
    if (mimetypes.types_map.get(ending) or mimetypes.common_types.get(ending) or "").startswith(
        kind
    ) or (kind == "video" and ending in _VIDEOS):
        return path
    wanted = _picture_ending(path) if kind == "image" else _video_ending(path)
    if not wanted:
        return path  # the class that reads it reports why it cannot
    from vlmeval.smp import LMUDataRoot

    link = Path(
        LMUDataRoot(),
        "files",
        hashlib.sha256(str(Path(path).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[
            :32
        ]
        + wanted,
    )
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another worker may have made the same link
        link.symlink_to(Path(path).absolute())
    return str(link)


def _picture_ending(path: str) -> str:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return _PICTURES.get(picture.format or "", ".png")
    except OSError:
        return ""


def _video_ending(path: str) -> str:
    with Path(path).open("rb") as file:
        begin = file.read(12)
    if begin.startswith(b"\x1aE\xdf\xa3"):  # EBML: Matroska and WebM
        return ".webm"
    if begin.startswith(b"RIFF"):
        return ".avi"
    return ".mp4" if begin[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") else ""
