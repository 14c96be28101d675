"""The complete list of scores that this program corrects: what is corrected, why, and both values.

All other peculiarities of a backend are reported beside its number and left unchanged
(``caveats.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...benchmarks import LMMS_EVAL, Benchmark, by_key
from ...scores.outputs import Outputs
from ...scores.score_table import BenchmarkScore, Reading, mean_relative_accuracy
from .samples import sample_entries

if TYPE_CHECKING:
    import pandas as pd

CORRECTED, STOCK = "corrected", "stock"


@dataclass(frozen=True)
class Correction:
    """One correction.

    Attributes:
        id: Name of the correction; the entries of the benchmarks that it corrects name it.
        reason: Why the stock score is wrong, shown to users.
        score: Computes a question's score (0-1) from the object that the backend wrote for it into
            its samples file; None if the correction does not apply to the question.
    """

    id: str
    reason: str
    score: Callable[[Mapping[str, Any]], float | None]


# ---- SPAR-Bench on lmms-eval

# Question types whose answer is the last number of the text (lmms_eval/tasks/sparbench/utils.py,
# process_na).
_LAST_NUMBER = (
    "depth_prediction_oc_mv",
    "depth_prediction_oo_mv",
    "distance_prediction_oc_mv",
    "distance_prediction_oo_mv",
)
_NUMERIC = (
    *_LAST_NUMBER,
    "depth_prediction_oc",
    "depth_prediction_oo",
    "distance_prediction_oc",
    "distance_prediction_oo",
)
_NUMBER = re.compile(r"(?<!\^)\d+(?:\.\d+)?")


def spar_numeric(entry: Mapping[str, Any]) -> float | None:
    """Return the score (0-1) of a numeric SPAR-Bench question, None for other questions.

    This is the value of SPAR-Bench's own expression once ``functools.partial`` is imported. Where
    that expression raises, the score is 0.
    """
    task = entry.get("task")
    if task not in _NUMERIC:
        return None
    try:
        # Convert all numbers, as the backend does: one with too many digits for int() makes the
        # whole answer score 0.
        numbers = [
            float(number) if "." in number else int(number)
            for number in _NUMBER.findall(str(entry.get("prediction", "")))
        ]
        if not numbers and task in _LAST_NUMBER:
            numbers = [-1]
        return mean_relative_accuracy(
            float(numbers[-1 if task in _LAST_NUMBER else 0]), float(entry["answer"])
        )
    except (IndexError, OverflowError, TypeError, ValueError):
        return 0.0


CORRECTIONS = (
    Correction(
        "spar-partial",
        "lmms-eval 0.7.3 lacks an import in its SPAR-Bench task (functools.partial), "
        "so that every numeric question scores 0 whatever is answered",
        spar_numeric,
    ),
)


def applying(backend: str, key: str) -> tuple[Correction, ...]:
    """Return the corrections for one benchmark on one backend."""
    named = by_key(key).source(backend).corrections
    return tuple(one for one in CORRECTIONS if one.id in named)


def corrected_rows(
    correction: Correction, entries: Mapping[str, Mapping[str, Any]], rows: pd.DataFrame
) -> pd.DataFrame | None:
    """Return ``rows`` with corrected scores, or None if no score changes.

    No score changes if the installed backend has been repaired.

    Args:
        correction: The correction to apply.
        entries: The backend's object for each question, by item. A question without one failed and
            keeps its score.
        rows: The per-question table, with ROW_COLUMNS.
    """
    scores = {
        item: score
        for item, entry in entries.items()
        if (score := correction.score(entry)) is not None
    }
    changed = rows.copy()
    changed["score"] = [
        scores.get(item, score) for item, score in zip(rows["item"], rows["score"], strict=True)
    ]
    return None if changed["score"].equals(rows["score"]) else changed


def all_corrected(bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` with every correction that applies to the benchmark."""
    known = applying(LMMS_EVAL, bench.key)
    entries = sample_entries(bench, out, rows) if known else {}
    for correction in known:
        changed = corrected_rows(correction, entries, rows)
        rows = rows if changed is None else changed
    return rows


def with_correction(
    score: BenchmarkScore, correction: Correction, corrected: Reading, *, wanted: bool
) -> BenchmarkScore:
    """Return ``score`` with both the corrected and the stock value and a note about them.

    The corrected value is the headline if ``wanted``; under ``--no-corrections`` the stock value
    is.
    """
    stock = score.reading
    method = CORRECTED if wanted else STOCK
    values = f"corrected {_number(corrected)}, stock {_number(stock)}"
    headline = (
        "the corrected value counts" if wanted else "the stock value counts (--no-corrections)"
    )
    note = f"{correction.id}: {correction.reason}; {values}: {headline}"
    return replace(
        score,
        reading=corrected if wanted else stock,
        method=method,
        by_method={CORRECTED: corrected, STOCK: stock},
        notes=(*score.notes, note),
    )


def _number(reading: Reading) -> str:
    return "none" if reading.overall is None else f"{reading.overall:.4f}"


def corrections_setting(bench: Benchmark, backend: str, wanted: bool) -> dict[str, object]:
    """Return the entry for a benchmark's settings: the ids of the corrections in force.

    A benchmark without corrections has no such entry.
    """
    known = applying(backend, bench.key)
    return {"corrections": [one.id for one in known] if wanted else []} if known else {}
