"""The files that a benchmark's scores come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Subfolder of a benchmark's folder with the files of scoring the same answers with a judge.
JUDGED = "judged"


@dataclass(frozen=True)
class Outputs:
    """All files that the scores of one benchmark come from.

    They are located once and then used for scoring, resuming and archiving.

    Attributes:
        benchmark: Key of the benchmark.
        folder: The folder that was searched.
        scores: Files with aggregated scores; empty if the backend wrote none because a question
            failed.
        rows: Per-question files.
        notes: Notes of our scorer (``notes.py``), if it wrote any.
        task: The backend's name of the task that was run; a benchmark may have several.
    """

    benchmark: str
    folder: Path
    scores: tuple[Path, ...]
    rows: tuple[Path, ...]
    notes: tuple[Path, ...] = ()
    task: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of these files."""
        return (*self.scores, *self.rows, *self.notes)
