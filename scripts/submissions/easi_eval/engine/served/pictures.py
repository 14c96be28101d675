"""Pictures as the URLs that servers take."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from . import FORMATS

ORIENTATION = 0x0112  # tag of Exif data; readers differ in whether they honour it
JPEG_QUALITY = 95


def picture_url(picture: Any, image_format: str = "PNG", readable: str = "") -> str:
    """Return a picture as a data URL, or as the URL of its file.

    The file of a plain PNG or JPEG picture is sent as it is, or named if the server reads it. Other
    pictures are encoded in ``image_format``, PNG without loss.

    Args:
        picture: A path, or an image of Pillow.
        image_format: One of ``FORMATS``.
        readable: A folder whose files the server reads; empty for none.
    """
    if isinstance(picture, str) and picture.startswith(("data:", "http://", "https://")):
        return picture
    if not isinstance(picture, Image.Image):
        path = Path(picture).resolve()
        data = path.read_bytes()
        picture = Image.open(io.BytesIO(data))
        if _is_plain(picture):
            named = readable and path.is_relative_to(readable)
            return path.as_uri() if named else _url(data, str(picture.format))
    out = io.BytesIO()
    if image_format == "JPEG":
        picture.convert("RGB").save(out, format="JPEG", quality=JPEG_QUALITY)
    else:
        # Any level holds the same pixels, and the default one takes four times as long.
        as_rgb = picture if picture.mode in ("RGB", "L", "1") else picture.convert("RGB")
        as_rgb.save(out, format="PNG", compress_level=1)
    return _url(out.getvalue(), image_format)


def _is_plain(picture: Image.Image) -> bool:
    """Return whether every reader sees the same pixels in the picture's own file."""
    return (
        picture.format in FORMATS
        and picture.mode in ("RGB", "L")
        and "transparency" not in picture.info
        and picture.getexif().get(ORIENTATION, 1) == 1
    )


def _url(data: bytes, image_format: str) -> str:
    return f"data:image/{image_format.lower()};base64,{base64.b64encode(data).decode()}"
