"""What a question is expected to take, from what is known before it is asked. Order and lease sizes follow it; no answer does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Tokens as the models of the leaderboard make them, roughly: an image of 1 MP at 28 x 28 pixels per token, a frame of a
# video at a third of that, text at four characters per token. Reading is some hundred times faster than writing.
IMAGE, FRAME, CHARACTER = 1000.0, 350.0, 0.25
WRITING = 150.0
# Answers rarely use their limit: a letter of 16, a chain of thought of 1024.
USED, MOST_WRITTEN = 0.25, 256.0
VIDEO_FRAMES = 32  # where nobody says how many are taken


def expected(
    images: float = 0, frames: float = 0, characters: float = 0, limit: float = 0
) -> float:
    """In thousands of tokens read; ``limit`` is the most tokens that may be generated (0: not known here)."""
    read = images * IMAGE + frames * FRAME + characters * CHARACTER
    return round((read + WRITING * min(USED * limit, MOST_WRITTEN)) / 1000 + 0.1, 3)


def count_parts(value: object) -> int:
    """How many images or videos a cell of a table names: a list, a list written as text, one, or none."""
    if isinstance(value, list | tuple):
        return len(value)
    if not isinstance(value, str) or not value.strip():
        return 0
    return value.count(",") + 1 if value.startswith("[") else 1


def limit_of(settings: Mapping[str, Any]) -> float:
    limit = settings.get("max_new_tokens")
    return float(limit) if isinstance(limit, int | float) else 0.0
