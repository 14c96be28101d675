"""What is odd about a backend's scoring: counted and told beside the number, never changed (that is ``corrections.py``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..benchmarks import LMMS_EVAL

if TYPE_CHECKING:
    import pandas as pd

# lmms-eval's object of one question: the row rule's metric in its samples file.
Entry = Mapping[str, Any]

# lmms_eval/tasks/omnispatial/utils.py reads its answers so, and takes A where it finds none.
_OMNISPATIAL_ANSWER = re.compile(r"Answer\s*:\s*([A-D])\b", re.IGNORECASE)
_WRAPPED = re.compile(r"<answer>.*?</answer>|\\boxed\s*\{", re.DOTALL)


def _spar_empty(entries: Iterable[Entry]) -> str:
    """SPAR's multiple choice takes any text that is part of the right letter, the empty one too (its ``exact_match``)."""
    empty = sum("accuracy" in entry and entry.get("prediction") == "" for entry in entries)
    return (
        f"{empty} empty answers to multiple-choice questions count as correct, as in every version of lmms-eval"
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
    """What counts this benchmark's oddity: a line about it, "" if no question shows it. None for a benchmark without one."""
    return _COUNTED.get((backend, key))


def drawn_letters(flips: int | None) -> str:
    """About answers that hold no letter, for which SITE's task on lmms-eval draws one."""
    return (
        f"{flips} answers without a letter got a random one, drawn from a fixed seed"
        if flips
        else ""
    )


def right_without_letter(rows: pd.DataFrame) -> str:
    """About answers (ROW_COLUMNS, by VLMEvalKit's rules) that are right because neither they nor the target have a letter it reads."""
    count = int(((rows["rule"] == "letter") & rows["parsed"].eq(False) & (rows["score"] > 0)).sum())
    return (
        f"{count} answers without a letter count as correct: VLMEvalKit's rules read no letter above F, in targets neither"
        if count
        else ""
    )


# What VLMEvalKit's SPAR-Bench reads of an answer about a change of view: "move_right:0.3,rotate_up:10" (dataset/sparbench.py).
_MOVEMENTS = frozenset(
    f"{kind}_{way}"
    for kind, ways in {
        "move": ("right", "left", "up", "down", "forward", "backward"),
        "rotate": ("right", "left", "up", "down"),
    }.items()
    for way in ways
)


def names_movement(answer: str) -> bool:
    """Whether an answer about a change of view names a movement and its number; what names none is scored as standing still."""
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
    """About answers (ROW_COLUMNS, by VLMEvalKit) to a change of view that name no movement, and score all the same."""
    said_nothing = rows[
        (rows["question_type"] == "view_change_infer") & ~rows["failed"] & rows["parsed"].eq(False)
    ]
    if said_nothing.empty:
        return ""
    return (
        f"{len(said_nothing)} answers about a change of view name no movement: VLMEvalKit scores them as standing still "
        f"({said_nothing['score'].mean():.2f} on average); they count as not read"
    )


# ---- answers inside <answer> or \boxed ---------------------------------------------------------------------------------


def wrapped(answer: str) -> bool:
    """Whether the answer holds ``<answer>...</answer>`` or ``\\boxed{``."""
    return _WRAPPED.search(answer) is not None


def unwrapped(answer: str) -> str:
    """What stands in the first ``<answer>...</answer>``, else in the first ``\\boxed{...}`` (braces balanced); else the answer itself.

    lmms-eval did so for its Qwen classes until March 2026 (``d8fcb9c3``).
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
    """``score``: what the benchmark would have scored with these answers unwrapped, 0-100; None where nobody scored them so."""
    if not count:
        return ""
    would = (
        f"; unwrapped the score would have been {score:.4f} (a diagnosis, not the score)"
        if score is not None
        else ""
    )
    return f"{count} answers hold <answer>...</answer> or \\boxed{{}}, which this release scores as they are{would}"
