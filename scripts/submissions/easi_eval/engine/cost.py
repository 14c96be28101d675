"""Expected time of a question, estimated before it is asked.

It decides the order of questions and the sizes of leases, never an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Tokens per part, roughly as for the models of the leaderboard: an image of 1 megapixel at 28 x 28
# pixels per token, a video frame at a third of that, text at four characters per token.
IMAGE, FRAME, CHARACTER = 1000.0, 350.0, 0.25
# Generating a token takes about as long as reading this many.
WRITING = 150.0
# Answers rarely use their limit (a letter of 16 tokens, a chain of thought of 1024): assume this
# part of it, and no more tokens than this.
USED, MOST_WRITTEN = 0.25, 256.0
VIDEO_FRAMES = 32  # frames per video where the number is not known


def expected(
    images: float = 0, frames: float = 0, characters: float = 0, limit: float = 0
) -> float:
    """The expected time of a question, in the time that 1000 tokens take to read.

    Args:
        images: Number of images.
        frames: Number of video frames.
        characters: Length of the text.
        limit: Most tokens that may be generated; 0: unknown.
    """
    read = images * IMAGE + frames * FRAME + characters * CHARACTER
    return round((read + WRITING * min(USED * limit, MOST_WRITTEN)) / 1000 + 0.1, 3)


def count_parts(value: object) -> int:
    """Number of images or videos that a cell of a table names.

    The cell is a list, a list written as text, a single name, or empty.
    """
    if isinstance(value, list | tuple):
        return len(value)
    if not isinstance(value, str) or not value.strip():
        return 0
    return value.count(",") + 1 if value.startswith("[") else 1


def limit_of(settings: Mapping[str, Any]) -> float:
    """``max_new_tokens`` of a task's generation settings; 0 if it is not a number."""
    limit = settings.get("max_new_tokens")
    return float(limit) if isinstance(limit, int | float) else 0.0
