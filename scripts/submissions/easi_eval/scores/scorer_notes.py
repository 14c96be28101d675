"""``scorer_notes.json``: facts from our scorer that the backend's own files do not contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.atomic_files import read_json, write_json
from ..core.errors import EasiError

NOTES_FILE = "scorer_notes.json"


@dataclass(frozen=True)
class FailedItem:
    """A question for which no answer was produced.

    The fields are those of its row in the per-question table (``row_table.py``); ``reason`` says
    why it failed.
    """

    item: str
    question_type: str
    target: str
    reason: str
    cluster: str = ""
    variant: str = ""
    options: int | None = None


@dataclass(frozen=True)
class ScorerNotes:
    """The contents of ``scorer_notes.json``.

    Attributes:
        coin_flips: Number of random letters that were drawn; None if this was not recorded.
        flipped: Items whose score rests on a random letter; None if this was not recorded.
        unparsed: Items whose answer the backend could not read; None if this was not recorded.
        failed: Questions that were not given to the backend's evaluator.
    """

    coin_flips: int | None = None
    flipped: tuple[str, ...] | None = None
    unparsed: tuple[str, ...] | None = None
    failed: tuple[FailedItem, ...] = ()

    @classmethod
    def of(cls, rows: Path, folder: Path) -> ScorerNotes:
        """Load the notes for the per-question file ``rows``; empty if there are none.

        They are searched for beside the file and in its parent folders up to ``folder``.
        """
        path = notes_file(rows, folder)
        return cls() if path is None else cls.load(path)

    @classmethod
    def load(cls, path: Path) -> ScorerNotes:
        """Load the notes from a file; members unknown to this program are ignored.

        Raises:
            EasiError: The file is damaged.
        """
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
    """Return the notes file for the per-question file ``rows``, None if there is none."""
    for place in rows.parents:
        if (place / NOTES_FILE).is_file():
            return place / NOTES_FILE
        if place == folder:
            break
    return None


def add_notes(folder: Path, **members: Any) -> None:
    """Write ``members`` into the folder's notes; other members stay as they are."""
    path = folder / NOTES_FILE
    write_json(path, {**(_members(path) if path.exists() else {}), **members})


def add_failed(folder: Path, items: Iterable[FailedItem]) -> None:
    """Add the questions that failed to the folder's notes, if there are any."""
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


def failed_records(benchmark: str, items: Iterable[FailedItem]) -> list[dict[str, object]]:
    """Return the records of failed questions: no answer, score 0, readability unknown."""
    return [
        {
            "benchmark": benchmark,
            "item": one.item,
            "question_type": one.question_type,
            "answer": "",
            "extracted": None,
            "target": one.target,
            "score": 0.0,
            "parsed": None,
            "cluster": one.cluster,
            "options": one.options,
            "coin_flip": False,
            "variant": one.variant,
            "failed": True,
        }
        for one in items
    ]
