"""The closed list of numbers that are not what the stock backend gives: what is corrected, why, and both values.

Everything else that is odd about a backend is told beside its number (``oddities.py``) and left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..benchmarks import LMMS_EVAL, Benchmark
from .scores import BenchmarkScore, Reading

if TYPE_CHECKING:
    import pandas as pd

CORRECTED, STOCK = "corrected", "stock"


@dataclass(frozen=True)
class Correction:
    """One entry of the list. ``score`` gives a question's score (0-1) from the object that the backend left of it in its samples
    file, None for a question that is not concerned.
    """

    id: str
    backend: str
    benchmark: str
    reason: str
    score: Callable[[Mapping[str, Any]], float | None]


# ---- SPAR-Bench on lmms-eval ------------------------------------------------------------------------------------------

# Task types whose answer is the last number of the text (lmms_eval/tasks/sparbench/utils.py, process_na).
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
_POINTS = 10
_STEP = (0.95 - 0.5) / (_POINTS - 1)
# theta of the mean relative accuracy: 0.50, 0.55, ..., 0.95, made as numpy's linspace makes them
_THETAS = (*(at * _STEP + 0.5 for at in range(_POINTS - 1)), 0.95)


def mean_relative_accuracy(predicted: float, target: float) -> float:
    """The share of theta = 0.50, 0.55, ..., 0.95 for which |predicted - target| / |target| <= 1 - theta.

    Source: VSI-Bench, https://arxiv.org/abs/2412.14171; for a target of 0 the backends compare the difference itself.
    """
    error = abs(predicted - target) if target == 0.0 else abs((predicted - target) / target)
    return sum(error <= 1 - theta for theta in _THETAS) / _POINTS


def spar_numeric(entry: Mapping[str, Any]) -> float | None:
    """What SPAR's own expression for a numeric question comes to once ``functools.partial`` is imported; 0 where it raises."""
    task = entry.get("task")
    if task not in _NUMERIC:
        return None
    try:
        # All of them, as there: one that is too long for an int costs the whole answer.
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
        LMMS_EVAL,
        "spar_bench",
        "lmms-eval 0.7.3 lacks an import in its SPAR-Bench task (functools.partial), so that every numeric question scores 0 whatever is answered",
        spar_numeric,
    ),
)


def applying(backend: str, key: str) -> tuple[Correction, ...]:
    """The corrections of one benchmark on one backend."""
    return tuple(one for one in CORRECTIONS if (one.backend, one.benchmark) == (backend, key))


def corrected_rows(
    correction: Correction, entries: Mapping[str, Mapping[str, Any]], rows: pd.DataFrame
) -> pd.DataFrame | None:
    """``rows`` with the corrected scores; None if that changes nothing (a backend that has been repaired).

    ``entries``: the backend's object of each question, by item. A question without one (it failed) keeps its score.
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


def with_correction(
    score: BenchmarkScore, correction: Correction, corrected: Reading, *, wanted: bool
) -> BenchmarkScore:
    """The line with both values; the corrected one is the headline where it is ``wanted`` (not under ``--no-corrections``)."""
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
    """What belongs to a benchmark's settings: the ids of the corrections in force; nothing for a benchmark without any."""
    known = applying(backend, bench.key)
    return {"corrections": [one.id for one in known] if wanted else []} if known else {}
