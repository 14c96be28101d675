"""``easi_results.json``: the leaderboard's payload, made from the score table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..benchmarks import CORE_KEYS, headline_keys, not_submitted
from ..judging import RULES
from ..results.scores import ScoreTable, State, title_of

if TYPE_CHECKING:
    from ..config import SubmissionConfig

# Fields a submission cannot do without and that no run can know.
REQUIRED = ("modelName", "modelType", "precision")
DECIMALS = 4
LONGEST_NOTES = 6_000  # characters that are added to a user's remarks


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS) + 0.0  # + 0.0: never -0.0


def build_payload(
    table: ScoreTable,
    backend: str,
    metadata: SubmissionConfig | None = None,
    said: Sequence[str] = (),
    clean: Callable[[str], str] = str,
) -> dict[str, Any]:
    """The payload as written to the file; ``backend`` is the leaderboard's spelling (``vlmevalkit``, ``lmmseval``).

    ``modelName`` is the checkpoint unless ``metadata`` names it; other metadata that was not given is left out. Scores are
    0-100 with 4 decimals; one that is not complete, also under ``--limit``, is null. ``site`` stands for its two halves.
    ``remarks`` are the user's, then ``said`` (lines about the model), then what has to be said beside the scores; ``clean`` takes out
    of them what is nobody's business.
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
        if (
            row.method not in ("", RULES) and RULES in row.by_method
        ):  # a judged benchmark has both scores, under keys of their own
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
    """The notes of all rows that count, each once, with the benchmarks that it is about."""
    about: dict[str, list[str]] = {}
    for row in table.rows:
        for note in row.notes if row.state is State.COMPLETE else ():
            about.setdefault(" ".join(note.split()), []).append(title_of(row.key))
    return [f"{', '.join(titles)}: {note}" for note, titles in about.items()]


def with_notes(remarks: str, notes: Sequence[str]) -> str:
    """The user's remarks, whole, and the notes as far as there is room for them, a line each."""
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
    """The payload without the keys that have no value (empty texts have none); objects left empty by that go too."""
    kept: dict[str, Any] = {}
    for name, value in payload.items():
        if isinstance(value, Mapping):
            value = to_send(value)
        if value not in (None, "", {}):
            kept[name] = value
    return kept


def payload_text(payload: Mapping[str, Any]) -> str:
    """JSON with sorted keys. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(payload, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def fields_to_fill(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Required fields that are lacking; ``modelName`` counts as lacking unless it is ``org/model``."""
    lacking = [name for name in REQUIRED if not payload.get(name)]
    if "modelName" not in lacking and "/" not in str(payload["modelName"]):
        lacking.insert(0, "modelName")
    return tuple(lacking)
