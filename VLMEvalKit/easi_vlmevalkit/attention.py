"""Stands in for flash-attn where it cannot be imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def has_flash_attention() -> bool:
    """Return whether flash-attn can be imported."""
    try:
        import flash_attn  # noqa: F401 -- imported to see whether it can be
    except ImportError:  # also raised by a flash-attn that was built for another torch
        return False
    return True


def without_flash(choose: Callable[..., str]) -> Callable[..., str]:
    """Return a ``get_correct_attn_implementation`` that never chooses ``flash_attention_2``.

    The implementation that transformers chooses by itself takes its place and is printed once.

    Args:
        choose: The method of ``PreTrainedModel``.
    """
    said: list[str] = []

    def get_correct_attn_implementation(
        self: Any, asked: str | None, *args: Any, **options: Any
    ) -> str:
        if asked != "flash_attention_2":
            return choose(self, asked, *args, **options)
        instead = choose(self, None, *args, **options)
        if not said:  # once: the submodels of a model ask too
            print(
                f"{type(self).__name__}: flash-attn cannot be imported; "
                f"loaded with {instead} instead of flash_attention_2",
                flush=True,
            )
        said.append(instead)
        return instead

    return get_correct_attn_implementation
