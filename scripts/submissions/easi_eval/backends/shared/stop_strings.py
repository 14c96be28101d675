"""Stop strings in words for users."""

from __future__ import annotations


def shown(stop: str) -> str:
    """Return where an answer ends that is cut at this stop string."""
    return {"\n\n": "the first blank line", "\n": "the first line break"}.get(
        stop, f"the first {stop!r}"
    )
