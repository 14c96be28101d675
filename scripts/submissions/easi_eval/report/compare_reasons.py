"""Why one model's questions are scored differently in two runs, from what the runs recorded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import EasiError
from ..engine.journal import Answer
from ..engine.journal_state import JournalState
from ..engine.work import Key, Work
from .evaluated import EvaluatedRun

if TYPE_CHECKING:
    import pandas as pd

FAILED = "failed in one run"
READ = "with the same answer, read differently"
LIMIT = "cut off at the token limit in one run"
MEDIA = "with another number of images or frames"
PROMPT = "with another prompt"
OTHER = "answered differently to the same prompt"
UNKNOWN = "answered differently; prompt and frames are not recorded"


def reasons(
    first: EvaluatedRun, second: EvaluatedRun, flips: Mapping[str, pd.DataFrame]
) -> dict[str, list[str]]:
    """Return why each question of ``flips`` is scored differently, by benchmark.

    The journals of run folders tell prompts, images and limits; archives do not have them.
    """
    left, right = _answers(first), _answers(second)
    return {
        key: [
            _reason(row, left.get((key, row["item"])), right.get((key, row["second_item"])))
            for row in found.to_dict("records")
        ]
        for key, found in flips.items()
    }


def _answers(run: EvaluatedRun) -> Mapping[Key, Answer]:
    if run.folder is None or not run.folder.journal.is_dir():
        return {}
    try:
        state = JournalState.of(run.folder.root, Work.load(run.folder.root))
    except EasiError:  # imported results have no journal, and what it tells is not needed
        return {}
    state.poll()
    return state.answers


def _reason(row: Mapping[Hashable, Any], one: Answer | None, other: Answer | None) -> str:
    if row["first_failed"] or row["second_failed"]:
        return FAILED
    if str(row["first_answer"]).strip() == str(row["second_answer"]).strip():
        return READ
    if one is None or other is None:
        return UNKNOWN
    if (one.finish == "length") != (other.finish == "length"):
        return LIMIT
    if _differ(one.frames, other.frames):
        return MEDIA
    if _differ(one.prompt, other.prompt):
        return PROMPT
    return OTHER if one.prompt and other.prompt else UNKNOWN


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other
