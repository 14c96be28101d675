"""Scores of a backend's aggregate, and the summary of a per-question table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from ..benchmarks import Benchmark, Part, Source
from ..core.errors import EasiError
from .recompute import NOBODY, part_score, pool
from .score_table import BenchmarkScore, Pool, Reading, State


def count_types(rows: pd.DataFrame, types: Iterable[str]) -> int:
    """Return the number of questions of these types; no types means all questions."""
    wanted = tuple(types)
    return int(rows["question_type"].isin(wanted).sum()) if wanted else len(rows)


def reading(
    source: Source, found: Mapping[str, float | None], rows: pd.DataFrame | None, where: str
) -> Reading:
    """Return headline and parts of one source, 0-100, from the backend's aggregate.

    With ``rows``, parts without a key are computed from the table, and a part whose questions were
    not asked becomes missing, even if the backend wrote 0 for it.

    Args:
        source: The benchmark as the backend knows it.
        found: The backend's number for each key, in the backend's own scale; None for a value that
            is not a number.
        rows: The per-question table, with ROW_COLUMNS.
        where: The file, for error messages.

    Raises:
        EasiError: The backend gives no number for a part although questions of all its types were
            scored.
    """
    parts: dict[str, float | None] = {}
    why: dict[str, str] = {}
    for part in source.parts:
        value, reason = _part(source, part, found, rows, where)
        parts[part.name] = value
        if value is None:
            why[part.name] = reason
    for name, reason in source.absent.items():
        parts[name] = None
        why[name] = f"not defined by {source.task}: {reason}"
    overall = found.get(source.overall)
    if overall is None:
        why[""] = f"{where} has no number for {source.overall}"
    return Reading(None if overall is None else overall * source.scale, parts, why)


def _part(
    source: Source,
    part: Part,
    found: Mapping[str, float | None],
    rows: pd.DataFrame | None,
    where: str,
) -> tuple[float | None, str]:
    if not part.key:
        value = None if rows is None else part_score(source, part, rows)
        return value, NOBODY
    value = found.get(part.key)
    asked = None if rows is None else count_types(rows, part.types)
    if asked == 0:
        return None, NOBODY
    if value is not None:
        return value * part.scale, ""
    if part.key in found:
        return None, f"{where} has no number under {part.key}"
    if rows is not None and all(count_types(rows, [kind]) for kind in part.types):
        raise EasiError(
            f"{where} has no number for {part.key}, but {asked} such questions were scored",
            hint="the file is cut off or damaged: run this benchmark again with --rerun",
        )
    if asked:
        return None, f"the backend needs questions of every kind: {', '.join(part.types)}"
    return None, f"{where} has no number for {part.key}"


def _known_sum(column: pd.Series) -> int | None:
    """Return the number of True values, None if any value is unknown."""
    return None if column.isna().any() else int(column.sum())


def summarise(
    bench: Benchmark,
    found: Reading,
    rows: pd.DataFrame,
    *,
    total: int | None,
    state: State,
    reason: str = "",
    notes: tuple[str, ...] = (),
    truncated: int | None = None,
    coin_flips: int | None = None,
) -> BenchmarkScore:
    """Return the benchmark's line of the score table.

    ``coin_flips`` is the number that the scorer counted, for results whose rows do not tell it.
    """
    answered = rows[~rows["failed"]]
    unparsed = None if answered["parsed"].isna().any() else int((~answered["parsed"]).sum())
    pools: dict[str, Pool] = {}
    if bench.group and len(rows):
        # Any source will do: members of a group have the same parts on every backend.
        source = next(iter(bench.sources.values()))
        wanted = {"": (), **{part.name: part.types for part in source.parts}}
        pools = {name: made for name, types in wanted.items() if (made := pool(rows, types))}
    return BenchmarkScore(
        key=bench.key,
        reading=found,
        n=len(rows),
        total=total,
        state=state,
        reason=reason,
        unparsed=unparsed,
        failed=len(rows) - len(answered),
        notes=notes,
        truncated=truncated,
        coin_flips=_known_sum(rows["coin_flip"]) if coin_flips is None else coin_flips,
        pools=pools,
    )
