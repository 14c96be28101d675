"""What a scorer of ours saw and the backend's files do not say: ``scorer_notes.json`` beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import EasiError
from ..state import read_json, write_json

NOTES_FILE = "scorer_notes.json"


@dataclass(frozen=True)
class FailedItem:
    """A question that no answer came about for: what its row in the per-question table says (see ``row_table.py``), and why."""

    item: str
    question_type: str
    target: str
    reason: str
    cluster: str = ""
    variant: str = ""
    options: int | None = None


@dataclass(frozen=True)
class ScorerNotes:
    """``coin_flips``: random letters drawn. Of items: ``flipped``, whose score rests on one; ``unparsed``, whose answer the
    backend could not read (both None: not watched); ``failed``, which the backend's evaluator was not given.
    """

    coin_flips: int | None = None
    flipped: tuple[str, ...] | None = None
    unparsed: tuple[str, ...] | None = None
    failed: tuple[FailedItem, ...] = ()

    @classmethod
    def of(cls, rows: Path, folder: Path) -> ScorerNotes:
        """Those about the per-question file ``rows``: beside it, or above it up to ``folder``; empty if there are none."""
        path = notes_file(rows, folder)
        return cls() if path is None else cls.load(path)

    @classmethod
    def load(cls, path: Path) -> ScorerNotes:
        """EasiError if the file is damaged; members that other programs keep there are passed over."""
        found = _members(path)
        try:
            flipped, unparsed = (
                None if found.get(name) is None else tuple(map(str, found[name]))
                for name in ("flipped", "unparsed")
            )
            return cls(
                found.get("coin_flips"),
                flipped,
                unparsed,
                tuple(FailedItem(**item) for item in found.get("failed", ())),
            )
        except TypeError as error:
            raise EasiError(
                f"{path} is damaged: {error}", hint="run this benchmark again with --rerun"
            ) from error


def notes_file(rows: Path, folder: Path) -> Path | None:
    """Where the notes about the per-question file ``rows`` are; None if there are none."""
    for place in rows.parents:
        if (place / NOTES_FILE).is_file():
            return place / NOTES_FILE
        if place == folder:
            break
    return None


def add_notes(folder: Path, **members: Any) -> None:
    """Put members into the folder's notes; what is there under other names stays."""
    path = folder / NOTES_FILE
    write_json(path, {**(_members(path) if path.exists() else {}), **members})


def add_failed(folder: Path, items: Iterable[FailedItem]) -> None:
    """Note the questions that failed, if there are any."""
    listed = [asdict(item) for item in items]
    if listed:
        add_notes(folder, failed=listed)


def _members(path: Path) -> Mapping[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise EasiError(
            f"{path} is damaged: it holds no object", hint="run this benchmark again with --rerun"
        )
    return found
