"""Intervals of a benchmark's headline and parts, made from its per-question table.

Shares of right answers have Wilson's interval with the effective n. Mean relative accuracies,
chance-adjusted accuracies, shares of sets and means over question types have a cluster bootstrap
(``statistics.py`` names the sources).

The chance level of a score is what the same formula gives if every question scores what a guess
scores on average, which is one by the number of its options. Questions without options (numbers,
movements) have no chance level; in a score that also has others they count as 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..benchmarks import Benchmark, Source
from .formulas import Ratios, headline_ratios, part_ratios
from .interval import Interval, pack
from .row_table import SETS
from .score_table import BenchmarkScore
from .statistics import (
    FEW_CLUSTERS,
    Codes,
    Floats,
    Z,
    cluster_bootstrap,
    cluster_codes,
    cluster_t,
    count_clusters,
    critical_value,
    percentile_interval,
    share_interval,
    wilson_interval,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Units:
    """What scores are means of: questions, or sets of questions.

    Attributes:
        kinds: Question type of each.
        scores: Score of each, 0-1.
        guesses: What a guess scores on average; NaN without options.
        options: What one guess in so many gets right; NaN where the rows do not say.
        clusters: Cluster of each.
        single: They are questions, not sets.
    """

    kinds: Sequence[str]
    scores: Floats
    guesses: Floats
    options: Floats
    clusters: Codes
    single: bool = True


def benchmark_intervals(
    bench: Benchmark, source: Source, rows: pd.DataFrame
) -> dict[str, Interval]:
    """Return the interval of the headline ("") and of every part that has a score."""
    return {name: interval for name, (interval, _) in _measured(bench, source, rows).items()}


def with_intervals(
    score: BenchmarkScore, bench: Benchmark, source: Source, rows: pd.DataFrame
) -> BenchmarkScore:
    """Return the score with the intervals of its numbers, and the draws that means need."""
    values = {**score.reading.parts, "": score.reading.overall}
    found = {
        name: (_around(value, interval), drawn)
        for name, (interval, drawn) in _measured(bench, source, rows).items()
        if (value := values.get(name)) is not None
    }
    return replace(
        score,
        intervals={name: interval for name, (interval, _) in found.items()},
        draws={name: pack(drawn) for name, (_, drawn) in found.items() if not name or bench.group},
    )


def _around(value: float, interval: Interval) -> Interval:
    """Return the interval of a score as the backend wrote it, which may be rounded."""
    return replace(
        interval, value=value, low=min(interval.low, value), high=max(interval.high, value)
    )


def _measured(
    bench: Benchmark, source: Source, rows: pd.DataFrame
) -> dict[str, tuple[Interval, Floats]]:
    if not len(rows):
        return {}
    questions = _questions(bench, rows)
    asked = list(dict.fromkeys(questions.kinds))
    wanted = {"": (questions, headline_ratios(source, asked))}
    sets: dict[str, Units] = {}
    for part in source.parts:
        if part.group and part.group not in sets:
            sets[part.group] = _sets(part.group, questions, rows["variant"].tolist())
        units = sets[part.group] if part.group else questions
        wanted[part.name] = (units, part_ratios(source, part, asked))
    seed = zlib.crc32(bench.key.encode())  # the benchmarks of a mean are drawn independently
    found = {
        name: _interval(units, ratios, source.recompute == "caa", seed)
        for name, (units, ratios) in wanted.items()
        if ratios
    }
    return {name: made for name, made in found.items() if made}


# ---- what a score is the mean of


def _questions(bench: Benchmark, rows: pd.DataFrame) -> Units:
    kinds, options = (
        rows["question_type"].tolist(),
        rows["options"].to_numpy("float64", na_value=np.nan),
    )
    everywhere = bench.guess.get("", np.nan)
    known = np.array([bench.guess.get(kind, everywhere) / 100 for kind in kinds])
    guesses = np.where(np.isnan(options), known, 1 / options)
    clusters = cluster_codes(rows["cluster"].tolist())
    return Units(kinds, rows["score"].to_numpy("float64"), guesses, options, clusters)


def _sets(group: str, questions: Units, variants: Sequence[str]) -> Units:
    """Return the sets of a grouping; a set is right if all its members are."""
    places: dict[str, list[int]] = {}
    for place, variant in enumerate(variants):
        places.setdefault(SETS[group](variant), []).append(place)
    kind_of = dict(zip(variants, questions.kinds, strict=True))
    members = list(places.values())
    return Units(
        [kind_of.get(name, "") for name in places],
        np.array([questions.scores[each].prod() for each in members]),
        np.array([questions.guesses[each].prod() for each in members]),
        np.full(len(members), np.nan),
        questions.clusters[[each[0] for each in members]],
        single=False,
    )


# ---- one score


def _interval(
    units: Units, ratios: Ratios, adjusted: bool, seed: int
) -> tuple[Interval, Floats] | None:
    """Return a score's interval and its draws, None if there is nothing that it is a mean of."""
    within = np.array([np.isin(units.kinds, [*kinds]) for _, kinds in ratios]).T
    here = within.any(axis=1)
    if not here.any():
        return None
    within, scores, guesses = within[here], units.scores[here], units.guesses[here]
    clusters, shares = units.clusters[here], np.array([weight for weight, _ in ratios])
    least = 1 / units.options[here] if adjusted else np.zeros(len(scores))

    def value_of(sums: Floats) -> Floats:
        points, weights = np.split(sums, 2, axis=-1)
        there = weights > 0
        means = np.divide(points, weights, out=np.zeros_like(points), where=there)
        # A type that was not drawn leaves its share to the others.
        found: Floats = (means * shares).sum(axis=-1)
        found /= np.maximum((there * shares).sum(axis=-1), 1e-9)
        return found

    def rows_of(points: Floats) -> Floats:
        return np.hstack([(points - least)[:, None] * within, (1 - least)[:, None] * within])

    rows, count = rows_of(scores), count_clusters(clusters)
    value = float(value_of(rows.sum(axis=0)))
    guessed = float(value_of(rows_of(np.nan_to_num(guesses)).sum(axis=0)))
    drawn = cluster_bootstrap(rows, clusters, value_of, seed=seed)
    if count > 1:
        drawn = value + cluster_t(count) * (drawn - value)
    if units.single and not adjusted and len(ratios) == 1 and np.isin(scores, (0, 1)).all():
        method, (error, low, high) = "wilson", share_interval(scores, clusters)
    else:
        method, error = "bootstrap", float(drawn.std()) * Z / critical_value(count)
        low, high = _ends(value, drawn, count, float(least.mean()))
    made = Interval(
        100 * value,
        100 * error,
        100 * low + 0.0,  # turns -0.0 into 0.0
        100 * high,
        len(scores),
        count,
        method + (", t" if count < FEW_CLUSTERS else ""),
        None if np.isnan(guesses).all() else 100 * guessed,
    )
    return made, 100 * drawn


def _ends(value: float, drawn: Floats, clusters: int, least: float) -> tuple[float, float]:
    """Return the 95 % interval of bootstrap draws, 0-1.

    Draws that are all alike show nothing of how the score varies: then it is taken for a share of
    right clusters, the widest that a mean of scores from 0 to 1 can be.

    Args:
        value: The score.
        drawn: Its draws.
        clusters: Number of clusters.
        least: Mean of what is subtracted for chance.
    """
    if clusters < 2 or np.ptp(drawn) < 1e-9:
        share = min(1.0, max(0.0, value * (1 - least) + least))
        ends = wilson_interval(share, clusters, critical_value(clusters))
        return (ends[0] - least) / (1 - least), (ends[1] - least) / (1 - least)
    low, high = percentile_interval(drawn)
    return max(low, least / (least - 1)), min(high, 1.0)
