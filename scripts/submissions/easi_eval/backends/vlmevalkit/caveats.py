"""Peculiarities of VLMEvalKit's scoring: counted and reported beside the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.score_table import BenchmarkScore


def annotate(
    rows: pd.DataFrame, score: BenchmarkScore, scorer_notes: Mapping[str, Any]
) -> BenchmarkScore:
    """Return ``score`` with notes on counted peculiarities.

    Args:
        rows: The per-question table, with ROW_COLUMNS.
        score: The score so far.
        scorer_notes: The notes of our scorer; empty under ``--plain``.
    """
    changed = len(scorer_notes.get("lossy") or ())
    lossy = (
        f"{changed} of {len(rows)} answers would have been changed by VLMEvalKit's own xlsx file "
        f"(empty, None, cut off ...); they are scored unchanged"
    )
    lines = (lossy if changed else "", right_without_letter(rows), standing_still(rows))
    return replace(score, notes=(*score.notes, *filter(None, lines)))


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
            "VLMEvalKit's rules parse no letter above F, in right answers neither"
        )
        if count
        else ""
    )


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
        f"({said_nothing['score'].mean():.2f} on average); they count as unparsed"
    )
