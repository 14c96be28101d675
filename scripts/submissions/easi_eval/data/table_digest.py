"""Hash the tables of a benchmark's data: questions and correct answers apart."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..core.atomic_files import file_digest
from ..core.errors import EasiError

RECORD = b"\x1e"


UNIT = b"\x1f"


class Hash(Protocol):
    """A hash object of hashlib, as far as this module uses it."""

    def update(self, data: bytes, /) -> None:
        """Add ``data`` to the hash."""
        ...


def hash_tsv(path: Path, truth: Sequence[str], seen: Hash, right: Hash) -> str:
    """Add the cells of the ``truth`` columns to ``right`` and all others to ``seen``.

    Returns:
        The MD5 sum of the file.
    """
    csv.field_size_limit(1 << 30)  # cells hold whole images in base64
    try:
        md5 = file_digest(path, "md5")
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
    """A file object for pyarrow that adds what is written to a hash."""

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


def hash_parquet(path: Path, truth: Sequence[str], seen: Hash, right: Hash) -> None:
    """Add the values of the ``truth`` columns to ``right`` and all others to ``seen``."""
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


def same_questions(old: Path, new: Path, truth: Sequence[str]) -> bool:
    """Compare all columns except ``truth`` by their values.

    The digests of two files can differ although their values are the same, because of row groups,
    encoding and compression.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(old) as before, pq.ParquetFile(new) as now:
            names, others = (
                [name for name in file.schema_arrow.names if name not in truth]
                for file in (before, now)
            )
            return names == others and all(
                before.read([name]).column(0).equals(now.read([name]).column(0)) for name in names
            )
    except (OSError, pa.ArrowException) as error:
        raise EasiError(
            f"{new} cannot be compared with what it was: {error}",
            hint="delete it; it is fetched again",
        ) from error
