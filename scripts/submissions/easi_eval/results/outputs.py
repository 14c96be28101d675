"""The files a benchmark's scores come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outputs:
    """Every file the scores of one benchmark come from, found once and used by scoring, resume and archive."""

    benchmark: str
    folder: Path
    scores: tuple[Path, ...]
    rows: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.scores, *self.rows)
