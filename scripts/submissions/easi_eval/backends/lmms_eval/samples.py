"""Read the samples files of lmms-eval 0.7.3: one JSON object per question and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import LMMS_EVAL, Benchmark, RowRule, Source
from ...core.errors import EasiError
from ...scores.outputs import Outputs

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "the file is cut off or damaged: run this benchmark again with --rerun"


def sample_task(path: Path) -> str:
    """Return the task of a samples file, which is part of its name."""
    return path.stem.rpartition("_samples_")[2]


def source_of(bench: Benchmark, out: Outputs) -> Source:
    """Return the benchmark's source, or the variant of it, that wrote these files."""
    return bench.source(LMMS_EVAL, out.task)


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (for error messages) and the content of each sample.

    Raises EasiError at the first damaged line.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if not line.endswith("\n"):
                    raise EasiError(f"{where} is cut off", hint=AGAIN)
                yield where, json.loads(line)
    except (OSError, ValueError) as error:
        raise EasiError(f"{path} cannot be read: {error}", hint=AGAIN) from error


def entry_of(sample: Mapping[str, Any], metric: str, where: str) -> Mapping[str, Any]:
    """Return the task's own object in a sample, which is stored under a metric's name.

    Raises:
        EasiError: There is none; ``where`` names the sample.
    """
    entry = sample.get(metric)
    if isinstance(entry, str):  # lmms-eval writes objects that JSON cannot represent as text
        try:
            entry = json.loads(entry)
        except ValueError as error:
            raise EasiError(f"{where}: {metric} is not JSON", hint=AGAIN) from error
    if not isinstance(entry, dict):
        raise EasiError(
            f"{where} has no {metric}", hint="it is not the samples file this task writes"
        )
    return entry


def lmms_samples(
    bench: Benchmark, out: Outputs
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Yield the item, the sample and the task's own object of each question.

    That object is the metric that the benchmark's row rule names (``rows.entry``).
    """
    rule = source_of(bench, out).rows
    for path in out.rows:
        for where, sample in read_lines(path):
            yield (
                f"{sample_task(path)}:{sample.get(rule.item)}",
                sample,
                entry_of(sample, rule.entry, where),
            )


# What corrections and caveats read of a task's own object. If a member is missing in an excerpt,
# the column of the per-question table has its text.
_COLUMNS = {"task": "question_type", "prediction": "answer", "pred": "answer", "answer": "target"}
_READ = (*_COLUMNS, "accuracy", "is_correct")


def sample_entries(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame
) -> dict[str, Mapping[str, Any]]:
    """Return of the task's own object of each question what is read of it, by item.

    ``rows`` is the per-question table; ``out`` may hold excerpts.
    """
    table = _table(rows)
    return {
        item: {**table.get(item, {}), **entry}
        for path in out.rows
        for item, _, entry in _entries(path, source_of(bench, out).rows)
    }


def excerpts(bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> dict[Path, bytes]:
    """Return the samples files with only what ``sample_entries`` needs besides the table."""
    rule, table = source_of(bench, out).rows, _table(rows)
    found = {}
    for path in out.rows:
        lines = []
        for item, number, entry in _entries(path, rule):
            texts = table.get(item, {})
            kept = {name: one for name, one in entry.items() if str(one) != texts.get(name)}
            lines.append(json.dumps({rule.item: number, rule.entry: kept}))
        found[path] = "".join(f"{line}\n" for line in lines).encode()
    return found


_Entries = list[tuple[str, Any, dict[str, Any]]]
_last: tuple[object, _Entries] = (None, [])  # the last file that was read, and its entries


def read_samples(path: Path, rule: RowRule) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what ``read_lines`` does; ``_entries`` then need not read the file again."""
    global _last
    before, task, found = _identity(path, rule), sample_task(path), []
    for where, sample in read_lines(path):
        entry, number = entry_of(sample, rule.entry, where), sample.get(rule.item)
        read = {name: entry[name] for name in _READ if name in entry}
        found.append((f"{task}:{number}", number, read))
        yield where, sample
    _last = before, found


def _identity(path: Path, rule: RowRule) -> object:
    stat = path.stat()
    return path, rule, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _entries(path: Path, rule: RowRule) -> _Entries:
    """Return item, number and the members in ``_READ`` of each sample."""
    if _last[0] != _identity(path, rule):
        for _ in read_samples(path, rule):
            pass
    return _last[1]


def _table(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    cells = zip(*(rows[column] for column in _COLUMNS.values()), strict=True)
    return {
        item: dict(zip(_COLUMNS, values, strict=True))
        for item, values in zip(rows["item"], cells, strict=True)
    }
