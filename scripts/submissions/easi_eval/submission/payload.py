"""``easi_results.json``: the leaderboard's payload, made from the score table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..benchmarks import CORE_KEYS, headline_keys, not_submitted
from ..config import REQUIRED_FIELDS, RULES, SubmissionConfig
from ..scores.score_table import ScoreTable, State, title_of

DECIMALS = 4
LONGEST_NOTES = 6_000  # characters of notes that are added to the user's remarks


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS) + 0.0  # + 0.0 turns -0.0 into 0.0


def build_payload(
    table: ScoreTable,
    backend: str,
    metadata: SubmissionConfig | None = None,
    said: Sequence[str] = (),
    clean: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Return the payload as it is written to the file.

    Scores are 0-100 with 4 decimals. The score of a benchmark that is not complete is null, also
    under ``--limit``. ``site`` stands for its two halves. The remarks are the user's, then
    ``said``, then the notes about scores.

    Args:
        table: The scores.
        backend: The leaderboard's name of the backend (``vlmevalkit``, ``lmmseval``).
        metadata: The submission's metadata; without it ``modelName`` is the checkpoint and other
            fields are left out.
        said: Lines about the model for the remarks.
        clean: Applied to the remarks to remove private paths and secrets.
    """
    described: dict[str, Any] = {"modelName": table.model} if metadata is None else asdict(metadata)
    if remarks := with_notes(described.get("remarks", ""), [*said, *score_notes(table)]):
        described["remarks"] = clean(remarks)
    by = {row.key: row for row in table.headlines}
    scores: dict[str, float | None] = dict.fromkeys(headline_keys(CORE_KEYS))
    parts: dict[str, dict[str, float | None]] = {}
    for key, row in by.items():
        complete = row.state is State.COMPLETE
        scores[key] = _rounded(row.reading.overall) if complete else None
        # A judged benchmark also has its scores by rules and by the judge under separate keys.
        if row.method not in ("", RULES) and RULES in row.by_method:
            scores |= {
                f"{key}_{method}": _rounded(read.overall) if complete else None
                for method, read in row.by_method.items()
            }
        parts[key] = {
            name: _rounded(value) if complete else None
            for name, value in row.reading.parts.items()
            if name not in not_submitted(key)
        }
    return {
        **described,
        "backend": backend,
        "scores": scores,
        "subScores": {key: values for key, values in parts.items() if values},
    }


def score_notes(table: ScoreTable) -> list[str]:
    """Return the notes of all complete benchmarks.

    Each note appears once, with the titles of the benchmarks that it is about.
    """
    about: dict[str, list[str]] = {}
    for row in table.rows:
        for note in row.notes if row.state is State.COMPLETE else ():
            about.setdefault(" ".join(note.split()), []).append(title_of(row.key))
    return [f"{', '.join(titles)}: {note}" for note, titles in about.items()]


def with_notes(remarks: str, notes: Sequence[str]) -> str:
    """Return the user's remarks in full, followed by as many notes as there is room for."""
    lines = [remarks.rstrip()] if remarks.strip() else []
    room = LONGEST_NOTES
    for place, note in enumerate(notes):
        if len(note) > room:
            lines.append(f"({len(notes) - place} more in the archive's run_manifest.json)")
            break
        lines.append(note)
        room -= len(note)
    return "\n".join(lines)


def to_send(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload without null values, empty texts and empty objects."""
    kept: dict[str, Any] = {}
    for name, value in payload.items():
        if isinstance(value, Mapping):
            value = to_send(value)
        if value not in (None, "", {}):
            kept[name] = value
    return kept


def payload_text(payload: Mapping[str, Any]) -> str:
    """Return the payload as JSON with sorted keys.

    Raises:
        ValueError: A value is NaN or infinite, which JSON cannot represent.
    """
    return json.dumps(payload, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def fields_to_fill(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the required fields that are missing.

    ``modelName`` counts as missing if it is not of the form ``org/model``.
    """
    lacking = [name for name in REQUIRED_FIELDS if not payload.get(name)]
    if "modelName" not in lacking and "/" not in str(payload["modelName"]):
        lacking.insert(0, "modelName")
    return tuple(lacking)
