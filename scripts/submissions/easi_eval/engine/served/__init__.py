"""Models behind OpenAI-compatible servers: probing them, and keeping many questions open.

What plan and client share is here, where it loads no HTTP client.
"""

from __future__ import annotations

from ...core.errors import EasiError

OPEN = 16  # questions that each server has open at first, of all client processes
MOST_OPEN = 64  # the most that it may come to
TIMEOUT = 600  # seconds that a question may take
FORMATS = ("PNG", "JPEG")


def checked_format(image_format: str) -> str:
    """Return the name of a picture format in capitals.

    Raises:
        EasiError: It is none of ``FORMATS``.
    """
    name = image_format.strip().upper()
    if name not in FORMATS:
        raise EasiError(
            f"--model-args image_format={image_format}", hint=f"use {' or '.join(FORMATS)}"
        )
    return name
