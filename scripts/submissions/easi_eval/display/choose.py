"""Which display a run gets."""

from __future__ import annotations

import os
from typing import TextIO

from .live import LiveDisplay
from .plain import Display, PlainDisplay


def make_display(no_rich: bool, stream: TextIO) -> Display:
    """The live view on a terminal that can draw it; otherwise, and with ``no_rich``, plain lines."""
    able = (
        stream.isatty()
        and os.environ.get("TERM", "") not in ("", "dumb")
        and "utf" in (stream.encoding or "").lower()
    )
    return LiveDisplay(stream) if able and not no_rich else PlainDisplay(stream)
