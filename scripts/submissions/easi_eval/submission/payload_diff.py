"""Compare the scores of a payload with the recomputed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backends.archived.index import Index
from ..backends.archived.proven import Proof
from ..benchmarks import GROUPS, headline_keys
from ..scores.score_table import title_of
from .payload import to_send

SHORT = 160  # characters of two values that are shown


def _scores_of(payload: Any) -> dict[tuple[str, str], Any]:
    """Return every score by (benchmark, part); the headline's part is the empty string.

    Malformed content gives no scores.
    """
    scores, parts = (payload.get(name) for name in ("scores", "subScores"))
    found = (
        {(str(key), ""): value for key, value in scores.items()} if isinstance(scores, dict) else {}
    )
    for key, inner in parts.items() if isinstance(parts, dict) else ():
        found |= (
            {(str(key), str(name)): value for name, value in inner.items()}
            if isinstance(inner, dict)
            else {(str(key), "?"): inner}
        )
    return {place: value for place, value in found.items() if value is not None}


def differences(where: str, given: Any, own: Mapping[str, Any]) -> list[str]:
    """Return the differences between a payload and the recomputed one.

    Scores are compared as they are sent, rounded to four decimals.
    """
    theirs, ours = _scores_of(given), _scores_of(own)
    said = []
    for place in dict.fromkeys((*ours, *theirs)):
        name = f"{place[0]} {place[1]}".strip()
        value, wanted = theirs.get(place), ours.get(place)
        if wanted is None:
            said.append(f"{where}: {name} is {value!r}, and the archive gives no such score")
        elif value is None:
            said.append(f"{where}: {name} is missing, recomputed {wanted:.4f}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or value != wanted:
            said.append(f"{where}: {name} is {value!r}, recomputed {wanted:.4f}")
    if given.get("backend") != own["backend"]:
        said.append(
            f"{where}: backend is {given.get('backend')!r}, the archive is of {own['backend']}"
        )
    return said


def field_differences(where: str, given: Mapping[str, Any], inside: Mapping[str, Any]) -> list[str]:
    """Return the fields in which a payload differs from that in the archive, without scores.

    They are compared as they are sent.
    """
    theirs, ours = to_send(given), to_send(inside)
    said = []
    for name in dict.fromkeys((*ours, *theirs)):
        one, other = theirs.get(name), ours.get(name)
        if one == other or name in ("scores", "subScores", "backend"):
            continue
        short = len(f"{one}{other}") <= SHORT
        how = f"is {one!r}, in the archive {other!r}" if short else "differs from the archive's"
        said.append(f"{where}: {name} {how}")
    return said


def score_lines(
    given: Any, own: Mapping[str, Any], proofs: Mapping[str, Proof], index: Index
) -> list[str]:
    """Return the table that ``--verify`` prints: each headline as recomputed and as given."""
    members = {group.key: group.members for group in GROUPS}
    theirs, ours = _scores_of(given), _scores_of(own)
    lines = [("benchmark", "questions", "recomputed", "payload", "")]
    for key in headline_keys(proofs):
        parts = [proofs[member] for member in members.get(key, (key,)) if member in proofs]
        value, wanted = theirs.get((key, "")), ours.get((key, ""))
        good = value == wanted and not any(part.problem for part in parts)
        lines.append(
            (
                title_of(key),
                str(sum(part.rows for part in parts)),
                _said(wanted),
                _said(value),
                "equal" if good else "DIFFERENT",
            )
        )
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return [
        f"archive of form {index.form}",
        "",
        *(
            "  ".join(
                (
                    line[0].ljust(widths[0]),
                    *(
                        cell.rjust(width)
                        for cell, width in zip(line[1:4], widths[1:4], strict=True)
                    ),
                    line[4],
                )
            ).rstrip()
            for line in lines
        ),
    ]


def _said(value: Any) -> str:
    return (
        "-"
        if value is None
        else f"{value:.4f}"
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else repr(value)[:12]
    )
