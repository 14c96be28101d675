"""What a cache of others lacks of a benchmark, by what is there: the files of its configurations, the media that its table names.

Without a listing of the hub nobody knows which files there should be. Looked at before anything is started; a single picture
that is nowhere may be the data's own fault, so only a folder of which the table names files and none is there counts.
"""

from __future__ import annotations

import ast
import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..benchmarks import HubData, Source
from ..errors import EasiError
from .hub_tables import named_files
from .needs import Fetched, HubSettings, Kind
from .planning import incomplete

# Columns that name media below the folder they are unpacked in; of the last group the first that a table has.
MEDIA: tuple[tuple[str, ...], ...] = (
    ("dataset", "scene_name"),
    ("visual",),
    ("frames_list",),
    ("ref_images",),
)
ONE_OF: tuple[tuple[str, ...], ...] = (("image_path",), ("video_path",), ("video",))


def refuse_lacking(source: Source, fetched: Sequence[Fetched], settings: HubSettings) -> None:
    """Raises EasiError naming the repository and what is not there."""
    data = [each for each in fetched if each.need.repo_type == "dataset"]
    if all(each.listed for each in data):
        return
    tables = [each.path for each in data if each.need.kind is Kind.FILE]
    for each in data:
        if each.need.kind is Kind.SNAPSHOT and isinstance(source.data, HubData):
            tables += _tables(each, source.data, settings)
    media = [each for each in data if each.need.kind is Kind.SNAPSHOT]
    named = _named(tables) if media else {}
    if not named:
        return
    wanted = {_tail(value) for values in named.values() for value in values}
    there = _there((each.media or each.path for each in media), wanted)
    for values in named.values():
        if absent := _absent(values, there):
            raise incomplete(
                f"{absent} of {' and '.join(each.need.repo for each in media)}", settings
            )


def _tables(fetched: Fetched, data: HubData, settings: HubSettings) -> list[Path]:
    """The Parquet files that are read, found as the datasets library finds them: by what the README says of each configuration."""
    if data.configs and not (fetched.path / "README.md").is_file():
        raise incomplete(f"README.md of {fetched.need.repo}", settings)
    found: list[Path] = []
    for config in data.configs or ("",):
        for pattern, paths in (named_files(fetched.path, config, data.split) or {}).items():
            if not paths:
                raise incomplete(f"{pattern} of {fetched.need.repo}", settings)
            found += paths
    found = found or [fetched.path / file.path for file in fetched.files]
    return [path for path in found if path.suffix == ".parquet"]


def _named(tables: Iterable[Path]) -> dict[tuple[str, ...], list[str]]:
    """What the tables say of media, by the columns that say it."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for table in tables:
        for columns, cells in _cells(table):
            for value in _values(cells):
                found.setdefault(columns, {})[value] = None
    return {columns: list(values) for columns, values in found.items()}


def _columns(names: Sequence[str]) -> list[tuple[str, ...]]:
    one = [columns for columns in ONE_OF if columns[0] in names]
    return [columns for columns in (*MEDIA, *one[:1]) if set(columns) <= set(names)]


def _cells(table: Path) -> Iterator[tuple[tuple[str, ...], list[object]]]:
    try:
        if table.suffix == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(table) as file:
                wanted = _columns(file.schema_arrow.names)
                rows = (
                    file.read(
                        columns=sorted({name for columns in wanted for name in columns})
                    ).to_pylist()
                    if wanted
                    else []
                )
            yield from (
                (columns, [row[name] for name in columns]) for row in rows for columns in wanted
            )
        else:
            csv.field_size_limit(1 << 30)  # images stand in their rows as base64
            with table.open(encoding="utf-8", newline="") as lines:
                reader = csv.DictReader(lines, delimiter="\t")
                wanted = _columns(reader.fieldnames or [])
                for cells in reader if wanted else ():
                    yield from ((columns, [cells[name] for name in columns]) for columns in wanted)
    except (OSError, ValueError, csv.Error) as error:
        raise EasiError(
            f"{table} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error


def _values(cells: Sequence[object]) -> Iterator[str]:
    """Paths of several columns are joined; a list, or a list's literal, holds several."""
    if len(cells) > 1:
        yield "/".join(map(str, cells))
        return
    (cell,) = cells
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = ast.literal_eval(cell)
        except (ValueError, SyntaxError):
            return
    if isinstance(cell, str):
        if cell.strip():
            yield cell.strip()
    elif isinstance(cell, list):
        for inner in cell:
            yield from _values([inner])


def _tail(value: str) -> str:
    """The table may name a folder more than the archive has; two last parts must agree."""
    return "/".join(PurePosixPath(value).parts[-2:])


def _there(folders: Iterable[Path], wanted: Collection[str]) -> set[str]:
    """Those of ``wanted`` that a file's path ends with, with its ending or without.

    Links to folders are followed, as the backends follow them: media may lie on another disk.
    """
    found: set[str] = set()
    seen: set[tuple[int, int, str]] = set()
    for root in folders:
        for folder, below, names in os.walk(root, followlinks=True):
            name, stat = folder.rpartition("/")[2], Path(folder).stat()
            mark = (stat.st_dev, stat.st_ino, name)
            if mark in seen:  # only its own name and what is in it tell
                below.clear()
                continue
            seen.add(mark)
            for file in names:
                for last in (file, file.rpartition(".")[0] or file):
                    found.update(tail for tail in (last, f"{name}/{last}") if tail in wanted)
    return found


def _absent(values: Sequence[str], there: Collection[str]) -> str:
    """A folder of which none of the files is there, with one of them; "" if there is none."""
    parts = {value: PurePosixPath(value).parts for value in values}
    # Of lists it compares part by part.
    shared = len(os.path.commonprefix([each[:-1] for each in parts.values()]))  # noqa: RUF071
    groups: dict[str, list[str]] = {}
    for value, each in parts.items():
        groups.setdefault(
            "/".join(each[: shared + 1]) if len(each) > shared + 1 else "", []
        ).append(value)
    for group, members in groups.items():
        if not any(_tail(value) in there for value in members):
            return f"{group} (for one {members[0]})" if group else members[0]
    return ""
