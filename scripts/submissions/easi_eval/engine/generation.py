"""What a model generated for one question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """What a model generated for one question; the fields are those of ``Answer``.

    Attributes:
        seconds: Time of this question; None: its share of the time of the call.
    """

    text: str
    tokens: int | None = None
    finish: str | None = None
    frames: int | None = None
    prompt: str | None = None
    seconds: float | None = None
    cut: str = ""
