"""Find names similar to a mistyped one, for hints."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], n: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return up to ``n`` similar names, best first; case and ``-``/``_``/``.`` do not matter."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    return [
        plain[found] for found in difflib.get_close_matches(_plain(word), plain, n=n, cutoff=cutoff)
    ]


def did_you_mean(word: str, names: Iterable[str], otherwise: str, n: int = 3) -> str:
    """Return a hint with the nearest names, or ``otherwise`` if none is similar."""
    found = nearest(word, names, n=n)
    return f"did you mean {' or '.join(found)}?" if found else otherwise


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
