"""Per-question rows as one table shape for both backends, and what is computed from them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..benchmarks import Benchmark, Part, Source
from ..errors import EasiError
from .notes import FailedItem
from .recompute import NOBODY, part_score, pool
from .row_table import ROW_COLUMNS, frame, rows_csv, rows_from_csv
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
    """Files, newest first. A file and links to it count once: as the file, where it lies among ``paths``, else as its link's target.

    VLMEvalKit's folders hold the time of a run, and it decides: copying a folder loses the times of its files. A file in no such
    folder is as old as it says; of one age the names decide.
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


# ``T20260209-101500`` (its API mode) or ``T20260209_G1a2b3c4d`` (older ones).
_RUN = re.compile(r"T(\d{8})(?:[-_](\d{6}))?(?:_G[0-9a-zA-Z]+)?")


def _made(path: Path) -> str:
    """When a file was made, to the second as far as that is known."""
    match = next((match for folder in path.parents if (match := _RUN.fullmatch(folder.name))), None)
    return (
        match[1] + (match[2] or "")
        if match
        else time.strftime("%Y%m%d%H%M%S", time.localtime(path.stat().st_mtime))
    )


# A snapshot in somebody's hub cache: where it lies says nothing about the scene.
_SNAPSHOT = re.compile(r"[^'\"\s]*/snapshots/[0-9a-f]+/")


def cluster_of(text: str, chars: int = 0) -> str:
    """The cluster column from what the file says: without this machine's paths, cut to ``chars`` if that is not 0."""
    text = _SNAPSHOT.sub("", text)
    return text[:chars] if chars else text


def failed_records(benchmark: str, items: Iterable[FailedItem]) -> list[dict[str, object]]:
    """The rows of questions that failed: no answer, score 0, nothing that could be read or not."""
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
    """How many questions are of one of these types; all of them if none is named."""
    wanted = tuple(types)
    return int(rows["question_type"].isin(wanted).sum()) if wanted else len(rows)


def reading(
    source: Source, found: Mapping[str, float | None], rows: pd.DataFrame | None, where: str
) -> Reading:
    """Headline and parts of one source from its aggregate (``found``: number by key, None for one that is no number).

    With ``rows``, parts without a key are computed from them, a zero for questions nobody asked becomes missing, and a
    number that should be there and is not is damage: EasiError naming ``where``.
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
    """Number of True values; None if any is unknown."""
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
    """One line of the table. ``coin_flips`` is what the scorer counted, where the rows do not tell."""
    answered = rows[~rows["failed"]]
    unparsed = None if answered["parsed"].isna().any() else int((~answered["parsed"]).sum())
    pools: dict[str, Pool] = {}
    if bench.group and len(rows):
        source = next(
            iter(bench.sources.values())
        )  # members of a group have the same parts on every backend
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
