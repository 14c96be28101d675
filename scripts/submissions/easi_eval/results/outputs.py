"""The files a benchmark's scores come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

JUDGED = "judged"  # folder below a benchmark's own: what was left by scoring the same answers with a judge


@dataclass(frozen=True)
class Outputs:
    """Every file the scores of one benchmark come from, found once and used by scoring, resume and archive.

    ``scores`` is empty where the backend has none because of a failed question. ``notes``: our scorer's, where it left any.
    ``task``: the backend's name of what was run, where a benchmark has several.
    """

    benchmark: str
    folder: Path
    scores: tuple[Path, ...]
    rows: tuple[Path, ...]
    notes: tuple[Path, ...] = ()
    task: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.scores, *self.rows, *self.notes)
