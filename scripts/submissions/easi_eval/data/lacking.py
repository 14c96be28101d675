"""Find files that an incomplete hub cache lacks, when no listing of the hub is available.

Without a listing, the data themselves must tell which files belong to a benchmark: the dataset's
card names the tables, and the tables name the media. The check runs before anything is started. A
single missing medium may be an error in the data, so media are reported only if a table names files
in a folder and none of them is there.
"""

from __future__ import annotations

import ast
import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..benchmarks import HubData, Source
from ..core.errors import EasiError
from .hub_tables import named_files
from .local_store import incomplete
from .needs import Fetched, HubSettings, Kind

# Columns that name media, relative to the folder into which they are unpacked.
MEDIA: tuple[tuple[str, ...], ...] = (
    ("dataset", "scene_name"),
    ("visual",),
    ("frames_list",),
    ("ref_images",),
)
# Of these only the first that a table has is used.
ONE_OF: tuple[tuple[str, ...], ...] = (("image_path",), ("video_path",), ("video",))


def refuse_lacking(source: Source, fetched: Sequence[Fetched], settings: HubSettings) -> None:
    """Refuse a benchmark whose data in the cache are visibly incomplete.

    Data with a full listing are not checked: their files are known one by one.

    Raises:
        EasiError: Files are missing; the message names the repository and an example.
    """
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
    """Return the Parquet tables of the split of each config, by the patterns of the dataset's card.

    If the card names none, all Parquet files of the repository are returned.

    Raises:
        EasiError: The card, or the tables that it names, are missing.
    """
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
    """Return the media that the tables name, by the columns that name them."""
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
    """Yield, for each row, the columns that name media together and their cells."""
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
            csv.field_size_limit(1 << 30)  # cells hold whole images in base64
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
    """Yield the media paths in the cells of one row.

    Several columns form one path. A single cell holds a path, a list, or a list's literal.
    """
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
    """Return the last two parts of a path: a table may name parent folders that archives lack."""
    return "/".join(PurePosixPath(value).parts[-2:])


def _there(folders: Iterable[Path], wanted: Collection[str]) -> set[str]:
    """Return those of ``wanted`` that are on disk, with or without a file extension.

    Args:
        folders: The folders to search. Links to folders are followed, as the backends do, because
            media may lie on another disk.
        wanted: The last one or two parts of media paths, see ``_tail``.
    """
    found: set[str] = set()
    seen: set[tuple[int, int, str]] = set()
    for root in folders:
        for folder, below, names in os.walk(root, followlinks=True):
            name, stat = folder.rpartition("/")[2], Path(folder).stat()
            mark = (stat.st_dev, stat.st_ino, name)
            # The same folder under the same name gives the same tails; this also ends link cycles.
            if mark in seen:
                below.clear()
                continue
            seen.add(mark)
            for file in names:
                for last in (file, file.rpartition(".")[0] or file):
                    found.update(tail for tail in (last, f"{name}/{last}") if tail in wanted)
    return found


def _absent(values: Sequence[str], there: Collection[str]) -> str:
    """Return a folder of which no file is there, with an example; "" if there is no such folder."""
    parts = {value: PurePosixPath(value).parts for value in values}
    # Given tuples of parts, commonprefix compares part by part and not by characters.
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
