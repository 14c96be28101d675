"""Removes files that VLMEvalKit derived from an earlier version of a dataset.

VLMEvalKit decodes a table's images to ``images/<dataset>/``, extracts video frames there, and
writes a ``_local.tsv`` without images and tables with absolute paths. It renews only one of these
when the source changes. Stale files would show a model the images of another version of the
question. A small JSON file beside the table records the source that the derived files came from.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from easi_eval.benchmarks import TsvData
from easi_eval.core.atomic_files import file_digest, read_json, write_json
from easi_eval.core.errors import EasiError


@dataclass(frozen=True)
class TableState:
    """The version of table and media that derived files were made from.

    Attributes:
        digest: SHA-256 of the table.
        size: Size of the table in bytes.
        changed: Modification time of the table in ns. With the same size and time the digest is
            not computed again.
        media: Snapshot folder of the media repository, whose path holds the commit; "" if none.
    """

    digest: str
    size: int
    changed: int
    media: str = ""


@dataclass(frozen=True)
class Derived:
    """A file or folder that VLMEvalKit makes from the table, from the media or from both."""

    path: Path
    table: bool
    media: bool

    def stale(self, now: TableState, before: TableState | None) -> bool:
        """Return whether it was made from another source than ``now``.

        If no source is recorded (``before``), a file made from the table is stale when older than
        the table.
        """
        if before is None:
            return self.table and _older(self.path, now.changed)
        return (self.table and before.digest != now.digest) or (
            self.media and before.media != now.media
        )


def drop_stale(data: TsvData, root: Path, hub_cache: Path) -> list[Path]:
    """Remove derived files whose table or media have changed since.

    Must not run in two processes at once for the same dataset.

    Args:
        data: The dataset's table and media.
        root: VLMEvalKit's data folder (``LMUData``).
        hub_cache: The folder of hub snapshots.

    Returns:
        The paths that were removed.
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


def _noted(note: Path) -> TableState | None:
    try:
        return TableState(**read_json(note)) if note.exists() else None  # type: ignore[arg-type]
    except (EasiError, TypeError):  # truncated, or written by another version of this program
        return None


def _source(table: Path, media: str, before: TableState | None) -> TableState:
    stat = table.stat()
    if before is not None and (before.size, before.changed) == (stat.st_size, stat.st_mtime_ns):
        return TableState(before.digest, stat.st_size, stat.st_mtime_ns, media)
    return TableState(file_digest(table), stat.st_size, stat.st_mtime_ns, media)


def _snapshot(repo: str, hub_cache: Path) -> Path | str:
    """Return the newest snapshot of a dataset repository in the hub's cache; "" without one."""
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
    """Return whether a file, or any file below a folder, was written before ``than`` (ns)."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_mtime_ns < than for file in files)


def _remove(path: Path) -> None:
    """Rename a path, then delete it.

    A process killed meanwhile leaves no partial folder under the name.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.stale")
    path.rename(aside)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()
