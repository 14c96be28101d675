"""Progress bars of the backends, which in a log are lines without news."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def silence_bars() -> None:
    """``tqdm.std.tqdm.__init__``: this process draws no more bars.

    Model classes open one per call, which here is one per question. ``TQDM_DISABLE`` changes only
    the default, and they pass ``disable`` themselves.
    """
    from tqdm import std

    draw = std.tqdm.__init__

    @functools.wraps(draw)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        draw(self, *args, **{**options, "disable": True})

    std.tqdm.__init__ = __init__
