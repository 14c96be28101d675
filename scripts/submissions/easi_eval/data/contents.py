"""What the fetched data of a benchmark hold: a digest of what a model sees, one of the right answers, and the table's MD5 sum.

A whole table is read once: what was found is kept in the hub's records by the digests of its files.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..benchmarks import Source, TsvData
from ..errors import EasiError
from ..state import digest, read_json, write_json
from .needs import Fetched, Kind

FOLDER = "contents"  # below the hub's records
NO_DATA = ("README.md", ".gitattributes")
RECORD, UNIT = b"\x1e", b"\x1f"


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def content_of(fetched: Fetched) -> str:
    """A digest of what a repository holds for us; a commit to its README alone does not change it."""
    return digest(
        sorted([file.path, file.digest] for file in fetched.files if file.path not in NO_DATA)
    )


def contents(source: Source, fetched: Iterable[Fetched], records: Path) -> dict[str, str]:
    """``questions`` and ``truth``, and the ``md5`` of a TSV. Raises EasiError for a table that cannot be read."""
    seen: list[str] = []
    truths: list[str] = []
    found: dict[str, str] = {}
    for each in fetched:
        if each.need.repo_type == "model":
            continue
        tables = _tables(each)
        if not tables:
            seen.append(content_of(each))
            continue
        columns = (source.rows.target,) if isinstance(source.data, TsvData) else source.data.truth
        table = _kept(each, tables, columns, records)
        seen.append(table.pop("questions"))
        truths.append(table.pop("truth"))
        found |= table
    return {"questions": digest(sorted(seen)), "truth": digest(sorted(truths)), **found}


def _tables(fetched: Fetched) -> dict[str, Path]:
    """The tables among the files, by their path in the repository."""
    if fetched.need.kind is Kind.FILE:
        return {file.path: fetched.path for file in fetched.files}
    return {
        file.path: fetched.path / file.path
        for file in fetched.files
        if file.path.endswith(".parquet")
    }


def _kept(
    fetched: Fetched, tables: Mapping[str, Path], truth: Sequence[str], records: Path
) -> dict[str, str]:
    # Where nobody said what a file should be, its size and time tell whether it is the one that was read.
    states = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in tables.items()}
    files = sorted(
        [file.path, file.digest or states.get(file.path)]
        for file in fetched.files
        if file.path not in NO_DATA
    )
    place = records / FOLDER / f"{digest([files, list(truth)])}.json"
    if place.exists():
        kept = read_json(place)
        if isinstance(kept, dict):
            return kept
    seen, right, table = hashlib.sha256(), hashlib.sha256(), {}
    for name, path in sorted(tables.items()):
        if fetched.need.kind is Kind.FILE:
            table["md5"] = _read_tsv(path, truth, seen, right)
        else:
            seen.update(name.encode() + RECORD)
            _read_parquet(path, truth, seen, right)
    others = [file for file in files if file[0] not in tables]
    found = {"questions": digest([seen.hexdigest(), others]), "truth": right.hexdigest(), **table}
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        write_json(place, found)
    return found


def _read_tsv(path: Path, truth: Sequence[str], seen: Hash, right: Hash) -> str:
    """Feeds the cells of each row to the one or the other; the MD5 sum of the file."""
    csv.field_size_limit(1 << 30)  # images stand in their rows as base64
    try:
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t")
            header = next(rows, [])
            hidden = [name in truth for name in header]
            seen.update(UNIT.join(name.encode() for name in header) + RECORD)
            for row in rows:
                for cell, is_truth in zip(row, hidden, strict=False):
                    (right if is_truth else seen).update(cell.encode() + UNIT)
                seen.update(RECORD)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EasiError(
            f"{path} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error
    return md5


class _Feed:
    """A file to write to for pyarrow."""

    closed = False

    def __init__(self, to: Hash) -> None:
        self.to = to

    def write(self, data: bytes) -> int:
        self.to.update(data)
        return len(data)

    def flush(self) -> None:
        return

    def close(self) -> None:
        self.closed = True


def _read_parquet(path: Path, truth: Sequence[str], seen: Hash, right: Hash) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for to, columns in (
                (seen, [name for name in names if name not in truth]),
                (right, [name for name in names if name in truth]),
            ):
                if not columns:
                    continue
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    bare = batch.replace_schema_metadata(None)
                    with pa.ipc.new_stream(
                        pa.PythonFile(_Feed(to), mode="w"), bare.schema
                    ) as stream:
                        stream.write_batch(bare)
    except (OSError, pa.ArrowException) as error:
        raise EasiError(
            f"{path} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error
