"""Peculiarities of VLMEvalKit's scoring: counted and reported beside the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def right_without_letter(rows: pd.DataFrame) -> str:
    """Return a note about answers without a letter that VLMEvalKit's rules count as correct.

    This happens where the rules find a letter neither in the answer nor in the target.

    Args:
        rows: The per-question table (ROW_COLUMNS) of a result that was read by rules.
    """
    count = int(((rows["rule"] == "letter") & rows["parsed"].eq(False) & (rows["score"] > 0)).sum())
    return (
        (
            f"{count} answers without a letter count as correct: "
            "VLMEvalKit's rules read no letter above F, in targets neither"
        )
        if count
        else ""
    )


# The movements that VLMEvalKit's SPAR-Bench reads from an answer about a change of view, such as
# "move_right:0.3,rotate_up:10" (dataset/sparbench.py).
_MOVEMENTS = frozenset(
    f"{kind}_{way}"
    for kind, ways in {
        "move": ("right", "left", "up", "down", "forward", "backward"),
        "rotate": ("right", "left", "up", "down"),
    }.items()
    for way in ways
)


def names_movement(answer: str) -> bool:
    """Return whether an answer about a change of view names a movement with a number.

    VLMEvalKit scores an answer that names none as if it said that the camera stands still.
    """
    return any(
        name.strip() in _MOVEMENTS and _is_number(value)
        for name, _, value in (part.partition(":") for part in answer.split(","))
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def standing_still(rows: pd.DataFrame) -> str:
    """Return a note about answers to a change of view that name no movement but get a score.

    Args:
        rows: The per-question table (ROW_COLUMNS) of a VLMEvalKit result.
    """
    said_nothing = rows[
        (rows["question_type"] == "view_change_infer") & ~rows["failed"] & rows["parsed"].eq(False)
    ]
    if said_nothing.empty:
        return ""
    return (
        f"{len(said_nothing)} answers about a change of view name no movement: "
        "VLMEvalKit scores them as standing still "
        f"({said_nothing['score'].mean():.2f} on average); they count as not read"
    )
