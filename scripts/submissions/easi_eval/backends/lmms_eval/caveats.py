"""Add corrections and notes to a score of lmms-eval.

The notes cover corrected scores, counted peculiarities of a task, and answers wrapped in tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import LMMS_EVAL, Benchmark, by_key
from ...scores.intervals import with_intervals
from ...scores.outputs import Outputs
from ...scores.recompute import recompute
from ...scores.score_table import BenchmarkScore
from . import corrections, samples
from .samples import sample_entries, source_of

if TYPE_CHECKING:
    import pandas as pd


def annotate(
    bench: Benchmark,
    out: Outputs,
    rows: pd.DataFrame,
    score: BenchmarkScore,
    scorer_notes: Mapping[str, Any],
    *,
    wanted: bool,
) -> BenchmarkScore:
    """Return ``score`` with its corrections and notes.

    Args:
        bench: The benchmark.
        out: Its files.
        rows: The per-question table, with ROW_COLUMNS.
        score: The score so far.
        scorer_notes: The notes of our scorer; empty under ``--plain``.
        wanted: Whether corrected values are the headline.
    """
    known, odd = corrections.applying(LMMS_EVAL, bench.key), counted(LMMS_EVAL, bench.key)
    entries = sample_entries(bench, out, rows) if known or odd else {}
    for correction in known:
        changed = corrections.corrected_rows(correction, entries, rows)
        if changed is not None:
            source = source_of(bench, out)
            corrected = recompute(bench, source, changed)
            score = corrections.with_correction(score, correction, corrected, wanted=wanted)
            if wanted and score.intervals:
                score = with_intervals(score, bench, source, changed)
    unwrapped = scorer_notes.get("unwrapped")
    halves = len(scorer_notes.get("escaped") or ())
    lines = (
        (
            f"{halves} of {len(rows)} answers hold an incomplete Unicode character; they are "
            f"scored unchanged, and escaped (\\udXXX) in lmms-eval's file"
        )
        if halves
        else "",
        odd(entries.values()) if odd else "",
        drawn_letters(score.coin_flips),
        wrapped_note(
            sum(wrapped(answer) for answer in rows["answer"] if isinstance(answer, str)),
            unwrapped if isinstance(unwrapped, (int, float)) else None,
        ),
    )
    return replace(score, notes=(*score.notes, *filter(None, lines)))


def excerpts(bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> dict[Path, bytes]:
    """Return what ``annotate`` reads of the samples besides the table ``rows``, by file."""
    reads = corrections.applying(LMMS_EVAL, bench.key) or counted(LMMS_EVAL, bench.key)
    return samples.excerpts(bench, out, rows) if reads else {}


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


# By the name that ``caveat`` of a benchmark's entry has for it.
COUNTED: Mapping[str, Callable[[Iterable[Entry]], str]] = {
    "spar_empty": _spar_empty,
    "omnispatial_default": _omnispatial_default,
}


def counted(backend: str, key: str) -> Callable[[Iterable[Entry]], str] | None:
    """Return the function that counts this benchmark's peculiarity, None if it has none.

    The function takes the backend's objects of all questions and returns a note, "" if no question
    is affected.
    """
    return COUNTED.get(by_key(key).source(backend).caveat)


def drawn_letters(flips: int | None) -> str:
    """Return a note about random letters.

    SITE's task on lmms-eval draws one for each answer without a letter.
    """
    return (
        f"{flips} answers without a letter got a random one, drawn from a fixed seed"
        if flips
        else ""
    )


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
