"""What VLMEvalKit derives from a dataset's table and media, and keeps for ever: thrown away when its source changed.

It decodes a table's images to ``images/<dataset>/``, cuts videos to frames there, writes a ``_local.tsv`` without images
and tables with absolute paths; of these only one is ever renewed. Stale ones would show a model the images of another
version of the question. Beside the table a small file notes which source they came from.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from easi_eval.benchmarks import TsvData
from easi_eval.errors import EasiError
from easi_eval.state import read_json, write_json


@dataclass(frozen=True)
class Source:
    """What the derived files were made from. ``digest``: SHA-256 of the table, which ``size`` and ``changed`` (ns) save computing
    again; ``media``: the snapshot of the media repository, whose path holds its commit.
    """

    digest: str
    size: int
    changed: int
    media: str = ""


@dataclass(frozen=True)
class Derived:
    """A file or folder that VLMEvalKit makes, and whether from the ``table``, the ``media`` or both."""

    path: Path
    table: bool
    media: bool

    def stale(self, now: Source, before: Source | None) -> bool:
        """Whether its source was another one than ``now``. With nothing noted ``before``: whether the table is newer."""
        if before is None:
            return self.table and _older(self.path, now.changed)
        return (self.table and before.digest != now.digest) or (
            self.media and before.media != now.media
        )


def drop_stale(data: TsvData, root: Path, hub_cache: Path) -> list[Path]:
    """Remove from ``root`` (the folder LMUData) what was derived from another table or other media than those there now.

    ``hub_cache``: the folder of hub snapshots. Returns what was removed. One process at a time, please.
    """
    table = root / (data.tsv_local or data.tsv)
    if not table.is_file():
        return []
    note = root / f".{data.dataset}.derived.json"
    before = _noted(note)
    now = _source(table, str(_snapshot(data.media_repo, hub_cache)), before)
    stale = [
        made.path
        for made in _derived(data, root, table)
        if made.path.exists() and made.stale(now, before)
    ]
    for path in stale:
        _remove(path)
    if now != before:
        write_json(note, asdict(now))
    return stale


def _derived(data: TsvData, root: Path, table: Path) -> Iterator[Derived]:
    if data.derived_tsv:  # the table with the media's absolute paths
        yield Derived(root / Path(data.derived_tsv).name, table=True, media=True)
    yield Derived(table.with_name(f"{table.stem}_local.tsv"), table=True, media=False)
    # Images that stand in the table, or frames of the videos.
    yield Derived(
        root / "images" / data.dataset, table=not data.media_repo, media=bool(data.media_repo)
    )


def _noted(note: Path) -> Source | None:
    try:
        return Source(**read_json(note)) if note.exists() else None  # type: ignore[arg-type]
    except (EasiError, TypeError):  # cut off, or of another version: nothing is known then
        return None


def _source(table: Path, media: str, before: Source | None) -> Source:
    stat = table.stat()
    if before is not None and (before.size, before.changed) == (stat.st_size, stat.st_mtime_ns):
        return Source(before.digest, stat.st_size, stat.st_mtime_ns, media)
    with table.open("rb") as file:
        return Source(
            hashlib.file_digest(file, "sha256").hexdigest(), stat.st_size, stat.st_mtime_ns, media
        )


def _snapshot(repo: str, hub_cache: Path) -> Path | str:
    """Where the hub's client keeps the newest snapshot of a dataset repository; "" if there is none."""
    if not repo:
        return ""
    folder = hub_cache / f"datasets--{repo.replace('/', '--')}"
    try:
        return (
            folder.resolve()
            / "snapshots"
            / (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        )
    except OSError:
        return ""


def _older(path: Path, than: int) -> bool:
    """Whether a file, or any file below a folder, was written before ``than`` (ns)."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_mtime_ns < than for file in files)


def _remove(path: Path) -> None:
    """Gone under its name at once, whatever happens while the rest is removed."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.stale")
    path.rename(aside)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()
