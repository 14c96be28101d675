"""Events to the screen, as a live view or as plain lines; ``make_display`` chooses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TextIO

from .plain import Display, PlainDisplay


def make_display(no_rich: bool, stream: TextIO, gpus: Iterable[str] = ()) -> Display:
    """Return the live view if ``stream`` is a terminal that can draw it, else plain lines.

    The live view needs a terminal with UTF-8 output and a ``TERM`` that is set and not "dumb".
    ``no_rich`` (option ``--no-rich``) always selects plain lines. ``gpus`` tells the state of the
    GPUs each time it is asked; only the live view asks.
    """
    able = (
        stream.isatty()
        and os.environ.get("TERM", "") not in ("", "dumb")
        and "utf" in (stream.encoding or "").lower()
    )
    if no_rich or not able:
        return PlainDisplay(stream)
    from .live import LiveDisplay  # loads rich

    return LiveDisplay(stream, gpus)
