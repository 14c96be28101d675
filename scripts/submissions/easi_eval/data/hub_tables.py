"""A dataset's rows from the hub's cache, as the datasets library would give them: by the configs that the dataset's card names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..benchmarks import HubData
from ..errors import EasiError
from .hub import Repo
from .needs import HubSettings

PART_OF = re.compile(r"-\d{5}-of-(\d{5})")


def snapshots(data: HubData, settings: HubSettings) -> tuple[list[Path], str]:
    """The folders of the commits that are in the cache, that of ``main`` first, and main's commit ("": not told)."""
    folder = settings.hub_cache / Repo("dataset", data.repo, "main").folder
    ref = folder / "refs" / "main"
    main = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    return sorted(
        (folder / "snapshots").glob("*"), key=lambda each: (each.name != main, each.name)
    ), main


def rows_of(data: HubData, folder: Path) -> list[list[dict[str, Any]]] | None:
    """Questions and right answers of each config's split, in the order of the rows; None where the folder does not hold them all."""
    tables = [_tables(folder, config, data.split) for config in data.configs or ("",)]
    columns = {*data.asked, *data.truth}
    rows = [[row for path in paths for row in _read(path, columns)] for paths in tables]
    whole = all(
        each and not columns.isdisjoint(each[0]) and any(name in each[0] for name in data.truth)
        for each in rows
    )
    return rows if whole else None


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The order that the tasks of VSI-Bench and SPAR-Bench give them under ``LMMS_EVAL_SHUFFLE_DOCS``: ``Dataset.shuffle(seed=42)``."""
    import numpy as np

    return [rows[place] for place in np.random.default_rng(42).permutation(len(rows))]


def _tables(folder: Path, config: str, split: str) -> list[Path]:
    """The tables of a split; none where the card does not name them, or some are not there."""
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
    """The files that are there, by the patterns with which the dataset's card names those of a split.

    ``config`` "" is the default one. None where the card does not name them, or in a way that is not
    read here: an author may write what he likes.
    """
    try:
        return {
            pattern: sorted((path for path in folder.glob(pattern) if path.is_file()), key=str)
            for pattern in _patterns(folder / "README.md", config, split)
        } or None
    except (NotImplementedError, ValueError):  # no pattern for a path below a folder
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
        # A path that stands for no split is that of the only one, which the library calls "train".
        of_split, path = (
            (entry.get("split"), entry.get("path"))
            if isinstance(entry, Mapping)
            else ("train", entry)
        )
        if of_split == split:
            found += path if isinstance(path, list) else [path]
    # Another hub's files, and alternatives, which a folder's glob does not know.
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
