"""Helpers that bring the rows of both backends into one table, and summarise the table."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..benchmarks import Benchmark, Part, Source
from ..core.errors import EasiError
from .recompute import NOBODY, part_score, pool
from .row_table import ROW_COLUMNS, frame, rows_csv, rows_from_csv
from .scorer_notes import FailedItem
from .scores import BenchmarkScore, Pool, Reading, State

__all__ = [
    "ROW_COLUMNS",
    "cluster_of",
    "count_types",
    "failed_records",
    "frame",
    "newest_files",
    "pool",
    "reading",
    "rows_csv",
    "rows_from_csv",
    "summarise",
]


def newest_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among ``paths``, newest first.

    A file and the links to it count once: as the file itself if it is among ``paths``, else as the
    target of the link.

    The age of a file is the time in the name of VLMEvalKit's run folder, because copying a folder
    may lose modification times. A file outside such a folder is as old as its modification time.
    Files of the same age are ordered by name.
    """
    real: dict[Path, Path] = {}
    for path in paths:
        if path.is_file():
            target = path.resolve()
            if not path.is_symlink():
                real[target] = path
            else:
                real.setdefault(target, target)
    return sorted(
        real.values(),
        key=lambda path: (_made(path), path.stat().st_mtime_ns, path.name, path.parent.name),
        reverse=True,
    )


# VLMEvalKit's run folders: ``T20260209-101500`` (API mode) or ``T20260209_G1a2b3c4d`` (older
# versions).
_RUN = re.compile(r"T(\d{8})(?:[-_](\d{6}))?(?:_G[0-9a-zA-Z]+)?")


def _made(path: Path) -> str:
    """Return when a file was made, as digits from year to second (or to the day)."""
    match = next((match for folder in path.parents if (match := _RUN.fullmatch(folder.name))), None)
    return (
        match[1] + (match[2] or "")
        if match
        else time.strftime("%Y%m%d%H%M%S", time.localtime(path.stat().st_mtime))
    )


# The path of a snapshot in a hub cache. It differs between machines and does not identify the
# scene.
_SNAPSHOT = re.compile(r"[^'\"\s]*/snapshots/[0-9a-f]+/")


def cluster_of(text: str, chars: int = 0) -> str:
    """Return the value of the cluster column, made from the text in a result file.

    Paths into a hub cache are removed. If ``chars`` is not 0, the text is cut to so many
    characters.
    """
    text = _SNAPSHOT.sub("", text)
    return text[:chars] if chars else text


def failed_records(benchmark: str, items: Iterable[FailedItem]) -> list[dict[str, object]]:
    """Return the records of failed questions: no answer, score 0, readability unknown."""
    return [
        {
            "benchmark": benchmark,
            "item": one.item,
            "question_type": one.question_type,
            "answer": "",
            "extracted": None,
            "target": one.target,
            "score": 0.0,
            "parsed": None,
            "cluster": one.cluster,
            "options": one.options,
            "coin_flip": False,
            "variant": one.variant,
            "failed": True,
        }
        for one in items
    ]


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
