"""Read a dataset's rows from the hub cache without the datasets library.

The tables of a split are found as that library finds them: by the ``configs`` in the metadata of
the dataset's card (README.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..benchmarks import HubData
from ..core.errors import EasiError
from .needs import HubSettings, Repo

PART_OF = re.compile(r"-\d{5}-of-(\d{5})")


def snapshots(data: HubData, settings: HubSettings) -> tuple[list[Path], str]:
    """Return the snapshot folders of a dataset in the hub cache, that of ``main`` first.

    Returns:
        The folders, and the commit of ``main`` ("" if the cache does not tell).
    """
    folder = settings.hub_cache / Repo("dataset", data.repo, "main").folder
    ref = folder / "refs" / "main"
    main = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    return sorted(
        (folder / "snapshots").glob("*"), key=lambda each: (each.name != main, each.name)
    ), main


def rows_of(data: HubData, folder: Path) -> list[list[dict[str, Any]]] | None:
    """Return the rows of the split, one list per config, in the order of the tables.

    Only the columns of the questions and of the correct answers are read. None if the folder does
    not hold all of them.

    Raises:
        EasiError: A table cannot be read.
    """
    tables = [_tables(folder, config, data.split) for config in data.configs or ("",)]
    columns = {*data.asked, *data.truth}
    rows = [[row for path in paths for row in _read(path, columns)] for paths in tables]
    whole = all(
        each and not columns.isdisjoint(each[0]) and any(name in each[0] for name in data.truth)
        for each in rows
    )
    return rows if whole else None


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows in the order of ``Dataset.shuffle(seed=42)`` of the datasets library.

    The tasks of VSI-Bench and SPAR-Bench in lmms-eval use this order if
    ``LMMS_EVAL_SHUFFLE_DOCS`` is set.
    """
    import numpy as np

    return [rows[place] for place in np.random.default_rng(42).permutation(len(rows))]


def _tables(folder: Path, config: str, split: str) -> list[Path]:
    """Return the tables of a split; an empty list if the card names none, or some are missing."""
    found = list((named_files(folder, config, split) or {}).values())
    for paths in found:
        parts = {int(match[1]) for path in paths if (match := PART_OF.search(path.name))}
        if (
            not paths
            or any(path.suffix != ".parquet" for path in paths)
            or (parts and parts != {len(paths)})
        ):
            return []
    return [path for paths in found for path in paths]


def named_files(folder: Path, config: str, split: str) -> dict[str, list[Path]] | None:
    """Return the files in ``folder`` that match the card's patterns for a split, by pattern.

    Args:
        folder: The snapshot folder.
        config: A config of the card; "" for the default one.
        split: The name of the split.

    Returns:
        None if the card does not name the files of the split, or in a form that is not supported.
    """
    try:
        return {
            pattern: sorted((path for path in folder.glob(pattern) if path.is_file()), key=str)
            for pattern in _patterns(folder / "README.md", config, split)
        } or None
    except (NotImplementedError, ValueError):  # absolute or malformed pattern
        return None


def _patterns(card: Path, config: str, split: str) -> list[str]:
    import yaml
    from huggingface_hub import metadata_load

    try:
        said = metadata_load(card)
    except (OSError, ValueError, yaml.YAMLError):
        return []
    listed = said.get("configs") if isinstance(said, Mapping) else None
    configs = [
        each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, Mapping)
    ]
    named = [each for each in configs if each.get("config_name") == (config or "default")]
    named = named or [
        each for each in configs if not config and (each.get("default") or len(configs) == 1)
    ]
    if not named or named[0].get("data_dir"):
        return []
    entries = named[0].get("data_files")
    found: list[object] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        # A path without a split belongs to the only split, which the library calls "train".
        of_split, path = (
            (entry.get("split"), entry.get("path"))
            if isinstance(entry, Mapping)
            else ("train", entry)
        )
        if of_split == split:
            found += path if isinstance(path, list) else [path]
    # Path.glob supports neither addresses nor {a,b} alternatives.
    if any(not isinstance(path, str) or "://" in path or "{" in path for path in found):
        return []
    return [str(path) for path in found]


def _read(path: Path, columns: set[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in columns]
            rows: list[dict[str, Any]] = file.read(names).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise EasiError(
            f"{path} cannot be read: {error}", hint="delete it; it is fetched again"
        ) from error
    return rows
