"""Digests of a benchmark's data, to find out whether the data changed and what that means.

There is one digest of what a model sees (the questions), one of the correct answers (the truth),
and the MD5 sum of a TSV table. If only the truth changed, answers of a model stay valid and are
scored again; if the questions changed, the benchmark starts over.

A table is read only once: its digests are cached by the digests of its files, in the records folder
of ``HubSettings`` or, if that is read-only, in the user's own cache folder. Parquet tables are read
only if their files changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..benchmarks import HubData, Source, TsvData
from ..core.atomic_files import digest, read_json, write_json
from ..core.errors import EasiError
from ..core.places import cache_folder
from .needs import MODEL_FILES, Fetched, Kind
from .table_digest import RECORD, hash_parquet, hash_tsv, same_questions

FOLDER = "contents"  # below the records folder
NO_DATA = ("README.md", ".gitattributes")
# Documents of a repository, and the pictures of its card. They hold neither questions nor weights.
PAPERS = re.compile(r"(readme|licen[cs]e|notice|citation|changelog|\.git)[^/]*", re.I)
CARD = re.compile(
    r"((assets?|figures?|figs?|docs?|\.github)/(.*/)?)?[^/]+\.(png|jpe?g|gif|svg|webp|pdf)", re.I
)
LARGE = 500_000_000  # bytes; reading tables of this size or more is announced


def content_of(fetched: Fetched) -> str:
    """Return one digest of all files of a repository except those in ``NO_DATA``.

    Manifests of older versions hold only this digest, not ``known_of``. Equal digests mean that
    nothing changed.
    """
    return digest(
        sorted([file.path, file.digest] for file in fetched.files if file.path not in NO_DATA)
    )


def known_of(fetched: Fetched) -> dict[str, object]:
    """Return the digests of the files that can change an answer or a score, for the manifest.

    ``files`` maps paths to digests. ``listed`` is true if the hub or an earlier fetch gave a full
    list of files, so that there are no others.
    """
    return {
        "listed": fetched.listed,
        "files": {
            file.path: file.digest
            for file in fetched.files
            if _matters(file.path, fetched.need.repo_type)
        },
    }


def _matters(path: str, kind: str) -> bool:
    if PAPERS.fullmatch(path.rpartition("/")[2]):
        return False
    return path.endswith(MODEL_FILES) if kind == "model" else not CARD.fullmatch(path)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the paths whose files differ between two results of ``known_of``.

    If one side is not ``listed``, only files that both sides hold with a digest are compared: a
    cache without a listing may lack files and does not know the digest of each.
    """
    old, new = before["files"], now["files"]
    if before["listed"] and now["listed"]:
        return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    both = old.keys() & new.keys()
    if not both:
        return sorted(old.keys() | new.keys())
    return sorted(path for path in both if old[path] and new[path] and old[path] != new[path])


def only_truth_differs(
    source: Source, before: Mapping[str, Any], fetched: Fetched, say: Callable[[str], None]
) -> bool:
    """Return whether the changed files are Parquet tables with the same questions as before.

    False as well if the hub cache no longer has the previous version of a table.

    Args:
        source: The benchmark's source; its data say which columns are the truth.
        before: ``known_of`` the previous version.
        fetched: The repository as it is now.
        say: Receives a message before large tables are read.
    """
    if not isinstance(source.data, HubData) or fetched.need.kind is not Kind.SNAPSHOT:
        return False
    now = known_of(fetched)
    paths = differing(before, now)
    tables = [
        (fetched.path.parents[1] / "blobs" / before["files"].get(path, "-"), fetched.path / path)
        for path in paths
        if path.endswith(".parquet")
    ]
    if len(tables) < len(paths) or not all(old.is_file() and new.is_file() for old, new in tables):
        return False
    _announce(fetched, [new for _, new in tables], say)
    return all(same_questions(old, new, source.data.truth) for old, new in tables)


def _announce(fetched: Fetched, tables: Iterable[Path], say: Callable[[str], None]) -> None:
    if (size := sum(path.stat().st_size for path in tables)) >= LARGE:
        say(
            f"reading the tables of {fetched.need.repo} to see what they hold ({size / 1e9:.1f} GB)"
        )


def contents(
    source: Source,
    fetched: Iterable[Fetched],
    records: Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """Return the digests of a benchmark's data.

    Args:
        source: The benchmark's source; it says which columns are the truth.
        fetched: The repositories of the benchmark; those of models are ignored.
        records: The records folder, where digests of tables are cached.
        say: Receives a message before large tables are read.

    Returns:
        ``questions`` and ``truth``. For a TSV table also ``table``, the digest of its questions
        without the media of other repositories, and ``md5``, the MD5 sum of the file.

    Raises:
        EasiError: A table cannot be read.
    """
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
        table = _kept(each, tables, columns, records, say)
        seen.append(table.pop("questions"))
        if each.need.kind is Kind.FILE:
            found["table"] = seen[-1]
        truths.append(table.pop("truth"))
        found |= table
    return {"questions": digest(sorted(seen)), "truth": digest(sorted(truths)), **found}


def _tables(fetched: Fetched) -> dict[str, Path]:
    """Return the tables among the files, by their path in the repository."""
    if fetched.need.kind is Kind.FILE:
        return {file.path: fetched.path for file in fetched.files}
    return {
        file.path: fetched.path / file.path
        for file in fetched.files
        if file.path.endswith(".parquet")
    }


def _kept(
    fetched: Fetched,
    tables: Mapping[str, Path],
    truth: Sequence[str],
    records: Path,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Return the digests of the tables, from the cache of an earlier reading if there is one."""
    # Files without a digest from the hub are recognised by their size and time of change.
    states = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in tables.items()}
    files = sorted(
        [file.path, file.digest or states.get(file.path)]
        for file in fetched.files
        if file.path not in NO_DATA
    )
    name = f"{digest([files, list(truth)])}.json"
    # A shared hub cache may be read-only; the user's own cache folder is used then.
    places = [folder / FOLDER / name for folder in (records, cache_folder())]
    for place in places:
        with contextlib.suppress(EasiError):  # absent or damaged: the table is read again
            kept = read_json(place)
            if isinstance(kept, dict):
                return kept
    _announce(fetched, tables.values(), say)
    seen, right, table = hashlib.sha256(), hashlib.sha256(), {}
    for inside, path in sorted(tables.items()):
        if fetched.need.kind is Kind.FILE:
            table["md5"] = hash_tsv(path, truth, seen, right)
        else:
            seen.update(inside.encode() + RECORD)
            hash_parquet(path, truth, seen, right)
    others = [file for file in files if file[0] not in tables]
    found = {"questions": digest([seen.hexdigest(), others]), "truth": right.hexdigest(), **table}
    for place in places:
        with contextlib.suppress(EasiError):  # not cached: the next start only takes longer
            write_json(place, found)
            break
    return found
