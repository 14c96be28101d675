"""Every score from the per-question rows alone, by our own few lines: what a backend's aggregate has to agree with.

How a source aggregates is data (``recompute`` in ``benchmarks.toml``), where nothing else is said over questions:

``mean``       the mean score of the questions; a part's, of those of its types (both backends' multiple-choice benchmarks)
``type_mean``  the unweighted mean over the question types of their mean scores; a part's, over its types (SPAR-Bench:
               https://arxiv.org/abs/2503.22976; BLINK in lmms-eval, whose group is the mean of its subtasks)
``part_mean``  a part's as in ``type_mean``, and the headline is the unweighted mean over the parts (VSI-Bench, whose relative
               direction is one of eight and the mean of three difficulties: https://arxiv.org/abs/2412.14171)
``caa``        sum(score - 1/n) / sum(1 - 1/n), n = number of options (SITE: https://arxiv.org/abs/2505.05456)

A question's own score is recomputed too where the rows hold what the backend took from the answer: by rules in VLMEvalKit's
benchmarks but BLINK, 3DSRBench and SPAR-Bench's view changes, and in BLINK on lmms-eval. Elsewhere the row's score is taken.

A part with a ``group`` counts sets of questions that are right only if all their members are (3DSRBench's CircularEval and
FlipEval: https://arxiv.org/abs/2412.07825). A failed question is a row with score 0 like any other, so that its set is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from ..benchmarks import Benchmark, Part, Source
from .corrections import mean_relative_accuracy
from .scores import Pool, Reading

# Agreement with a backend's own number, on the 0-100 scale.
EXACT = 1e-6

NOBODY = "no question of this kind was asked"
# VLMEvalKit reads a target by the rules it reads answers by, and they know no others (spatial_bench/matching_func.py, can_match_option):
# where the target is G, an answer without a letter is right and <answer>G</answer> wrong.
KNOWN_LETTERS = "ABCDEF"


# ---- one question


def letter_of(text: str) -> str | None:
    """The option letter a target stands for (``B``, ``(B)``, ``B. left``), upper case; None if it is no option."""
    found = re.match(r"\(?([A-Za-z])(?:\)|[.:,]|$)", text.strip())
    return found[1].upper() if found else None


def score_of(rule: str, extracted: str | None, target: str) -> float | None:
    """A question's score, 0-1, from what the backend took from the answer (None: nothing) and the target.

    ``letter``: 1 for the target's letter (VSI-Bench and all multiple choice). ``number``: the mean relative accuracy. None
    where the rule is "" or the target cannot be read (by the backend: ``KNOWN_LETTERS``), so that there is nothing to say.
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
            if right != right or extracted is None:  # NaN: the backend gives 0 whatever is answered
                return 0.0
            try:
                return mean_relative_accuracy(float(extracted), right)
            except ValueError:
                return 0.0
        case _:
            return None


def wrong_scores(rows: pd.DataFrame) -> list[tuple[str, float, float]]:
    """(item, score in the rows, score it should have) of every question whose score does not follow from what was extracted."""
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
    """What the chance-adjusted accuracy of these questions is made of; None if there is none."""
    picked = _of(rows, types)
    if not len(picked):
        return None
    chance = 1 / picked["options"].astype("float64")
    return Pool(float((picked["score"] - chance).sum()), float((1 - chance).sum()))


def accuracy(rows: pd.DataFrame, types: Iterable[str] = ()) -> float | None:
    """Mean score of the questions of these types (none named: of all), 0-100; None if there is none."""
    picked = _of(rows, types)
    return 100 * float(picked["score"].mean()) if len(picked) else None


def type_means(rows: pd.DataFrame) -> dict[str, float]:
    """Mean score of each question type, 0-100."""
    return {
        str(kind): 100 * float(mean)
        for kind, mean in rows.groupby("question_type", sort=False)["score"].mean().items()
    }


# Which set a variant of 3DSRBench belongs to. qids: XXXXXXXX, XXXXXXXX-n, XXXXXXXX-flip, XXXXXXXX-flip-n (n: options turned round).
SETS: Mapping[str, Callable[[str], str]] = {
    "flip": lambda qid: qid.replace("-flip", ""),
    "circular": lambda qid: qid[:13] if "-flip" in qid else qid[:8],
    "flip_circular": lambda qid: qid[:8],
}


def all_right(rows: pd.DataFrame, group: str, types: Iterable[str] = ()) -> float | None:
    """Share of the sets all of whose members are right, 0-100; a set counts for the type of the member it is named after.

    None if there is no set. A member that is half right counts as half, as in both backends' products; scores here are 0 or 1.
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
    """Headline and every part of ``source`` (of ``bench``, by either backend), 0-100, from the rows (ROW_COLUMNS) and nothing else."""
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
    overall = _overall(source, rows, means)
    if overall is None:
        why[""] = "no question was asked" if not len(rows) else "every question has one option"
    return Reading(overall, parts, why)


def part_score(
    source: Source, part: Part, rows: pd.DataFrame, means: Mapping[str, float] | None = None
) -> float | None:
    """One part, 0-100; None if none of its questions was asked, or not all the types its mean is over. ``means``: ``type_means``."""
    if part.group:
        return all_right(rows, part.group, part.types)
    match source.recompute:
        case "caa":
            pooled = pool(rows, part.types)
            return pooled.caa if pooled else None
        case "mean":
            return accuracy(rows, part.types)
        case _:
            means = type_means(rows) if means is None else means
            found = [means[kind] for kind in part.types if kind in means]
            whole = source.recompute == "type_mean" or len(found) == len(part.types)
            return sum(found) / len(found) if found and whole else None


def _why(part: Part, means: Mapping[str, float]) -> str:
    asked = [kind for kind in part.types if kind in means]
    return (
        f"it is the mean over questions of every kind: {', '.join(part.types)}" if asked else NOBODY
    )


def _overall(source: Source, rows: pd.DataFrame, means: Mapping[str, float]) -> float | None:
    match source.recompute:
        case "caa":
            pooled = pool(rows)
            return pooled.caa if pooled else None
        case "mean":
            return accuracy(rows)
        case "type_mean":
            return sum(means.values()) / len(means) if means else None
        case _:
            units = [unit for part in source.parts for unit in _units(part, means)]
            return sum(units) / len(units) if units else None


def _units(part: Part, means: Mapping[str, float]) -> list[float]:
    """What a part brings to ``part_mean``: its one score or, without one of its types, each of the others (VLMEvalKit's way)."""
    found = [means[kind] for kind in part.types if kind in means]
    return [sum(found) / len(found)] if found and len(found) == len(part.types) else found


# ---- agreement


def tolerance(source: Source, scale: float) -> float:
    """How far a backend's number may be from ours, 0-100: 1e-6, and half a unit of the last decimal it writes."""
    return EXACT + (0.0 if source.decimals is None else 0.5 * 10.0**-source.decimals * scale)


def disagreement(source: Source, own: Reading, found: Reading) -> str:
    """What the backend's aggregate (``found``) says otherwise than the rows (``own``), one clause with both numbers; "" if nothing.

    Compared are the headline and every part that both have.
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
    """``found`` with what only the rows tell; its own numbers stay."""
    parts = {
        name: own.parts.get(name) if value is None else value for name, value in found.parts.items()
    }
    why = {
        name: reason
        for name, reason in found.why_missing.items()
        if not name or parts.get(name) is None
    }
    return Reading(found.overall, parts, why)
