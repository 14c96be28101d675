"""Fixed places on this machine: the repository, and the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[4]


def cache_folder() -> Path:
    """Return the user's cache folder of this program; its content can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "easi-eval"
