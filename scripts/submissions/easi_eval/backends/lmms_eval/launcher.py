"""Launch lmms-eval: command lines and environment of its processes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path


def absolute_paths(args: Sequence[str], options: Container[str]) -> list[str]:
    """Return ``args`` with the values of these options, which are paths, made absolute.

    Both ``--o V`` and ``--o=V`` are recognised. The workers run in another folder.
    """
    made: list[str] = []
    for word in args:
        option, equals, value = word.partition("=")
        if equals and option in options:
            made.append(f"{option}={Path(value).expanduser().absolute()}")
        else:
            made.append(
                str(Path(word).expanduser().absolute()) if made and made[-1] in options else word
            )
    return made
