"""The files that a benchmark's scores come from."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
        notes: Notes of our scorer (``scorer_notes.py``), if it wrote any.
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


@dataclass(frozen=True)
class Candidate:
    """The files of one benchmark, all from the same run.

    Attributes:
        key: Key of the benchmark.
        files: The files.
        problem: Why they cannot be imported; "" if they can.
        method: How answers were read (``exact_matching`` or a judge); "" on a backend without a
            choice.
        notes: Remarks for users, for example which other results were left out.
    """

    key: str
    files: tuple[Path, ...] = ()
    problem: str = ""
    method: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        backend: The backend that wrote the files.
        model: The checkpoint as the files name it.
        candidates: One entry per benchmark found.
        cls: The model class or type that ran it; "" if the files do not say.
        arguments: Model arguments that affect answers.
        version: Version of lmms-eval; "" if unknown.
    """

    backend: str
    model: str
    candidates: tuple[Candidate, ...]
    cls: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    version: str = ""


def taken_note(chosen: str, left: Sequence[str]) -> str:
    """Return the note for a benchmark that has several results in the folder."""
    return f"read from {chosen}; ignored: {', '.join(left)}"


def newest_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among ``paths``, newest first.

    A file and the links to it count once: as the file itself if it is among ``paths``, else as the
    target of the link.

    The age of a file is the time in the name of VLMEvalKit's run folder, because copying a folder
    may lose modification times. A file outside such a folder is as old as its modification time.
    Files of the same age are ordered by name.
    """
    real: dict[Path, Path] = {}
    for path in paths:
        if path.is_file():
            target = path.resolve()
            if not path.is_symlink():
                real[target] = path
            else:
                real.setdefault(target, target)
    return sorted(
        real.values(),
        key=lambda path: (_made(path), path.stat().st_mtime_ns, path.name, path.parent.name),
        reverse=True,
    )


# VLMEvalKit's run folders: ``T20260209-101500`` (API mode) or ``T20260209_G1a2b3c4d`` (older
# versions).
_RUN = re.compile(r"T(\d{8})(?:[-_](\d{6}))?(?:_G[0-9a-zA-Z]+)?")


def _made(path: Path) -> str:
    """Return when a file was made, as digits from year to second (or to the day)."""
    match = next((match for folder in path.parents if (match := _RUN.fullmatch(folder.name))), None)
    return (
        match[1] + (match[2] or "")
        if match
        else time.strftime("%Y%m%d%H%M%S", time.localtime(path.stat().st_mtime))
    )
