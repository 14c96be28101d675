"""Peculiarities of a backend's scoring: they are counted and reported beside the score.

Scores are never changed here; ``corrections.py`` does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..benchmarks import LMMS_EVAL

if TYPE_CHECKING:
    import pandas as pd

# lmms-eval's object of one question: the metric in the samples file that the row rule names.
Entry = Mapping[str, Any]

# The pattern of lmms_eval/tasks/omnispatial/utils.py, which assumes A where it finds no match.
_OMNISPATIAL_ANSWER = re.compile(r"Answer\s*:\s*([A-D])\b", re.IGNORECASE)
_WRAPPED = re.compile(r"<answer>.*?</answer>|\\boxed\s*\{", re.DOTALL)


def _spar_empty(entries: Iterable[Entry]) -> str:
    """Report empty answers that SPAR-Bench's multiple choice counts as correct.

    Its ``exact_match`` accepts any text that is part of the right letter, so also the empty text.
    """
    empty = sum("accuracy" in entry and entry.get("prediction") == "" for entry in entries)
    return (
        (
            f"{empty} empty answers to multiple-choice questions count as correct, "
            "as in every version of lmms-eval"
        )
        if empty
        else ""
    )


def _omnispatial_default(entries: Iterable[Entry]) -> str:
    unread = [
        entry for entry in entries if not _OMNISPATIAL_ANSWER.search(str(entry.get("pred", "")))
    ]
    right = sum(bool(entry.get("is_correct")) for entry in unread)
    return (
        f"{len(unread)} answers without 'Answer: X' count as A ({right} of them are right so)"
        if unread
        else ""
    )


_COUNTED: Mapping[tuple[str, str], Callable[[Iterable[Entry]], str]] = {
    (LMMS_EVAL, "spar_bench"): _spar_empty,
    (LMMS_EVAL, "omnispatial_(manual_cot)"): _omnispatial_default,
}


def counted(backend: str, key: str) -> Callable[[Iterable[Entry]], str] | None:
    """Return the function that counts this benchmark's peculiarity, None if it has none.

    The function takes the backend's objects of all questions and returns a note, "" if no question
    is affected.
    """
    return _COUNTED.get((backend, key))


def drawn_letters(flips: int | None) -> str:
    """Return a note about random letters.

    SITE's task on lmms-eval draws one for each answer without a letter.
    """
    return (
        f"{flips} answers without a letter got a random one, drawn from a fixed seed"
        if flips
        else ""
    )


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


# ---- answers inside <answer> or \boxed


def wrapped(answer: str) -> bool:
    r"""Return whether the answer contains ``<answer>...</answer>`` or ``\boxed{``."""
    return _WRAPPED.search(answer) is not None


def unwrapped(answer: str) -> str:
    r"""Return the text in the first ``<answer>...</answer>``, else in the first ``\boxed{...}``.

    Braces inside ``\boxed`` are balanced. An answer with neither is returned unchanged. lmms-eval
    did this for its Qwen classes until March 2026 (``d8fcb9c3``).
    """
    tagged = re.search(r"<answer>(.*?)</answer>", answer, re.DOTALL)
    if tagged:
        return tagged[1].strip()
    boxed = re.search(r"\\boxed\s*\{", answer)
    if boxed is None:
        return answer
    depth = 1
    for at, char in enumerate(answer[boxed.end() :], start=boxed.end()):
        depth += (char == "{") - (char == "}")
        if not depth:
            return answer[boxed.end() : at].strip()
    return answer[boxed.end() :].strip()


def wrapped_note(count: int, score: float | None) -> str:
    r"""Return a note about answers in ``<answer>`` or ``\boxed{}``, "" if there are none.

    Args:
        count: Number of such answers.
        score: The benchmark's score (0-100) with these answers unwrapped; None if it was not
            computed.
    """
    if not count:
        return ""
    would = (
        f"; unwrapped the score would have been {score:.4f} (a diagnosis, not the score)"
        if score is not None
        else ""
    )
    return (
        f"{count} answers hold <answer>...</answer> or \\boxed{{}}, "
        f"which this release scores as they are{would}"
    )
