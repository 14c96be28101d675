"""Add corrections and notes to a score of lmms-eval.

The notes cover corrected scores, counted peculiarities of a task, and answers wrapped in tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..benchmarks import LMMS_EVAL, Benchmark
from . import corrections, oddities
from .lmms_files import sample_entries, source_of
from .outputs import Outputs
from .recompute import recompute
from .scores import BenchmarkScore

if TYPE_CHECKING:
    import pandas as pd


def told(
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
    known, odd = corrections.applying(LMMS_EVAL, bench.key), oddities.counted(LMMS_EVAL, bench.key)
    entries = sample_entries(bench, out) if known or odd else {}
    for correction in known:
        changed = corrections.corrected_rows(correction, entries, rows)
        if changed is not None:
            corrected = recompute(bench, source_of(bench, out), changed)
            score = corrections.with_correction(score, correction, corrected, wanted=wanted)
    unwrapped = scorer_notes.get("unwrapped")
    halves = len(scorer_notes.get("escaped") or ())
    lines = (
        (
            f"{halves} of {len(rows)} answers hold half a character; they are scored as they are, "
            "and escaped (\\udXXX) in lmms-eval's file"
        )
        if halves
        else "",
        odd(entries.values()) if odd else "",
        oddities.drawn_letters(score.coin_flips),
        oddities.wrapped_note(
            sum(oddities.wrapped(answer) for answer in rows["answer"] if isinstance(answer, str)),
            unwrapped if isinstance(unwrapped, (int, float)) else None,
        ),
    )
    return replace(score, notes=(*score.notes, *filter(None, lines)))
