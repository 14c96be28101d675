"""Recompute every score from the per-question table alone, to check the backend's own numbers.

How a source combines the scores of its questions is ``recompute`` in its entry:

``mean``
    The mean score of the questions; for a part, of the questions of its types. Used by the
    multiple-choice benchmarks of both backends.
``type_mean``
    The unweighted mean over the question types of their mean scores; for a part, over its types.
    Used by SPAR-Bench (https://arxiv.org/abs/2503.22976) and by BLINK in lmms-eval, where the
    group's score is the mean of its subtasks.
``part_mean``
    A part's score is as in ``type_mean``; the headline is the unweighted mean over the parts. Used
    by VSI-Bench, which has eight parts; the part for relative direction is itself the mean of three
    difficulties (https://arxiv.org/abs/2412.14171).
``caa``
    sum(score - 1/n) / sum(1 - 1/n), n = number of options. Used by SITE
    (https://arxiv.org/abs/2505.05456).

The score of a single question is recomputed too where the table holds what the backend extracted
from the answer: in VLMEvalKit's results that were read by rules, except for BLINK, 3DSRBench and
the view changes of SPAR-Bench, and in BLINK on lmms-eval. Elsewhere the score in the table is used.

A part with a ``group`` counts sets of questions; a set is right only if all its members are
(CircularEval and FlipEval of 3DSRBench, https://arxiv.org/abs/2412.07825). A failed question is a
row with score 0 like any other, so its set is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd

from ..benchmarks import Benchmark, Part, Source
from .formulas import Ratios, headline_ratios, part_ratios
from .row_table import SETS
from .score_table import Pool, Reading, mean_relative_accuracy

# Largest difference from a backend's own number, on the 0-100 scale.
EXACT = 1e-6

NOBODY = "no question of this kind was asked"
# The letters that VLMEvalKit's rules recognise (spatial_bench/matching_func.py, can_match_option).
# It applies the same rules to targets: where the target is G, an answer without a letter counts as
# right and <answer>G</answer> as wrong.
KNOWN_LETTERS = "ABCDEF"


# ---- one question


def letter_of(text: str) -> str | None:
    """Return the option letter of a target (``B``, ``(B)``, ``B. left``) in upper case.

    None if the target is not an option.
    """
    found = re.match(r"\(?([A-Za-z])(?:\)|[.:,]|$)", text.strip())
    return found[1].upper() if found else None


def score_of(rule: str, extracted: str | None, target: str) -> float | None:
    """Return the score (0-1) of a question from the extracted answer and the target.

    Args:
        rule: ``letter``: 1 if the extracted letter is the target's (VSI-Bench and all multiple
            choice). ``number``: the mean relative accuracy. "": there is no rule.
        extracted: What the backend extracted from the answer; None if nothing.
        target: The right answer.

    Returns:
        The score; None if there is no rule or the target cannot be read. For a letter this includes
        targets that the backend's own rules cannot read (see ``KNOWN_LETTERS``).
    """
    match rule:
        case "letter":
            wanted = letter_of(target)
            return (
                None
                if wanted is None or wanted not in KNOWN_LETTERS
                else float(extracted is not None and extracted.strip().upper() == wanted)
            )
        case "number":
            try:
                right = float(target)
            except ValueError:
                return None
            # For a target of NaN the backend gives 0 to every answer.
            if right != right or extracted is None:
                return 0.0
            try:
                return mean_relative_accuracy(float(extracted), right)
            except ValueError:
                return 0.0
        case _:
            return None


def wrong_scores(rows: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Return the questions whose score does not follow from what was extracted.

    Each entry is (item, score in the table, score that it should have).
    """
    found = []
    for item, rule, extracted, target, score, failed in zip(
        *(rows[name] for name in ("item", "rule", "extracted", "target", "score", "failed")),
        strict=True,
    ):
        own = 0.0 if failed else score_of(rule, extracted, target)
        if own is not None and abs(own - score) > EXACT:
            found.append((item, float(score), own))
    return found


# ---- groups of questions


def pool(rows: pd.DataFrame, types: Iterable[str] = ()) -> Pool | None:
    """Return the sums behind the chance-adjusted accuracy of the questions of these types.

    None if there are no such questions; no types means all questions.
    """
    picked = _of(rows, types)
    if not len(picked):
        return None
    chance = 1 / picked["options"].astype("float64")
    return Pool(float((picked["score"] - chance).sum()), float((1 - chance).sum()))


def accuracy(rows: pd.DataFrame, types: Iterable[str] = ()) -> float | None:
    """Return the mean score (0-100) of the questions of these types; no types means all questions.

    None if there are no such questions.
    """
    picked = _of(rows, types)
    return 100 * float(picked["score"].mean()) if len(picked) else None


def type_means(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean score of each question type, 0-100."""
    return {
        str(kind): 100 * float(mean)
        for kind, mean in rows.groupby("question_type", sort=False)["score"].mean().items()
    }


def all_right(rows: pd.DataFrame, group: str, types: Iterable[str] = ()) -> float | None:
    """Return the share of sets, 0-100, all of whose members are right.

    A set has the type of the member that it is named after. Returns None if there is no set.
    Members' scores are multiplied, as in both backends, so that a half-right member would count as
    half; the scores here are 0 or 1.

    Args:
        rows: The per-question table, with ROW_COLUMNS.
        group: How sets are formed, a key of ``SETS``.
        types: The question types to count; none means all.
    """
    names = rows["variant"].map(SETS[group])
    product = rows["score"].groupby(names.to_numpy(), sort=False).prod()
    wanted = set(types)
    if wanted:
        named = rows.loc[rows["variant"] == names, ["variant", "question_type"]]
        kinds = dict(zip(named["variant"], named["question_type"], strict=True))
        product = product[[kinds.get(name) in wanted for name in product.index]]
    return 100 * float(product.mean()) if len(product) else None


def _of(rows: pd.DataFrame, types: Iterable[str]) -> pd.DataFrame:
    wanted = tuple(types)
    return rows[rows["question_type"].isin(wanted)] if wanted else rows


# ---- a benchmark


def recompute(bench: Benchmark, source: Source, rows: pd.DataFrame) -> Reading:
    """Return the headline and every part of a benchmark, 0-100, from its per-question table alone.

    Args:
        bench: The benchmark.
        source: Its entry for one backend.
        rows: The per-question table, with ROW_COLUMNS.
    """
    parts: dict[str, float | None] = {}
    why: dict[str, str] = {}
    means = type_means(rows)
    for part in source.parts:
        parts[part.name] = part_score(source, part, rows, means)
        if parts[part.name] is None:
            why[part.name] = _why(part, means)
    for name, reason in source.absent.items():
        parts[name] = None
        why[name] = f"not defined by {source.task}: {reason}"
    overall = _weighted(source, headline_ratios(source, means), rows, means)
    if overall is None:
        why[""] = "no question was asked" if not len(rows) else "every question has one option"
    return Reading(overall, parts, why)


def part_score(
    source: Source, part: Part, rows: pd.DataFrame, means: Mapping[str, float] | None = None
) -> float | None:
    """Return the score of one part, 0-100.

    None if none of its questions was asked, or if its mean is over types that were not all asked.
    ``means`` is the result of ``type_means(rows)``, if the caller has it already.
    """
    if part.group:
        return all_right(rows, part.group, part.types)
    means = type_means(rows) if means is None else means
    return _weighted(source, part_ratios(source, part, means), rows, means)


def _weighted(
    source: Source, ratios: Ratios, rows: pd.DataFrame, means: Mapping[str, float]
) -> float | None:
    """Return the weighted mean of ratios, 0-100; None if there is none."""
    if not ratios:
        return None
    if source.recompute == "caa":
        pooled = pool(rows, ratios[0][1])
        return pooled.caa if pooled else None
    if source.recompute == "mean":
        return accuracy(rows, ratios[0][1])
    weights = sum(weight for weight, _ in ratios)
    return sum(weight * means[kind] for weight, (kind,) in ratios) / weights


def _why(part: Part, means: Mapping[str, float]) -> str:
    asked = [kind for kind in part.types if kind in means]
    return (
        f"it is the mean over questions of every kind: {', '.join(part.types)}" if asked else NOBODY
    )


# ---- agreement


def tolerance(source: Source, scale: float) -> float:
    """Return the accepted difference between a backend's number and ours, on the 0-100 scale.

    It is 1e-6 plus half a unit of the last decimal that the backend writes.
    """
    return EXACT + (0.0 if source.decimals is None else 0.5 * 10.0**-source.decimals * scale)


def disagreement(source: Source, own: Reading, found: Reading) -> str:
    """Return how the backend's scores (``found``) differ from the recomputed ones (``own``).

    The text has one clause with both numbers per difference; it is "" if there is none. The
    headline and every part that the backend has a number for are compared.
    """
    scales = {"": source.scale, **{part.name: part.scale for part in source.parts}}
    values = {
        "": (found.overall, own.overall),
        **{name: (value, own.parts.get(name)) for name, value in found.parts.items()},
    }
    off = [
        f"{name or 'the score'} is {theirs:.6f}, its rows give {ours:.6f}"
        for name, (theirs, ours) in values.items()
        if theirs is not None
        and ours is not None
        and not abs(theirs - ours) <= tolerance(source, scales[name])
    ]
    lacking = [
        f"{name or 'the score'} is {theirs:.6f}, its rows give none"
        for name, (theirs, ours) in values.items()
        if theirs is not None and ours is None
    ]
    return "; ".join((off + lacking)[:3]) + (
        f" (and {len(off + lacking) - 3} more)" if len(off + lacking) > 3 else ""
    )


def filled(found: Reading, own: Reading) -> Reading:
    """Return ``found`` with missing parts filled in from ``own``; existing numbers stay."""
    parts = {
        name: own.parts.get(name) if value is None else value for name, value in found.parts.items()
    }
    why = {
        name: reason
        for name, reason in found.why_missing.items()
        if not name or parts.get(name) is None
    }
    return Reading(found.overall, parts, why)
