"""Provide single files on disk: check what is there, link an equal file, or download.

A file that ends up at its place is complete and has the hub's digest; otherwise there is none.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from ..core.errors import EasiError
from .hub import Hub
from .local_store import Checked, digest_of, size_of_file
from .needs import FileRecord
from .parallel import Pulse
from .wanted_file import WantedFile


def bring(item: WantedFile, hub: Hub, checked: Checked, pulse: Pulse) -> None:
    """Make ``item.place`` the file that the hub describes; a wrong file is never left there.

    Args:
        item: The file; its ``done`` and ``note`` are updated.
        hub: Where it is downloaded from if needed.
        checked: Remembers files whose digest is known, so that they are not read again.
        pulse: Receives a beat whenever bytes arrive or are checked.

    Raises:
        EasiError: The file cannot be downloaded, or arrives damaged twice.
    """

    def on_bytes(count: int) -> None:
        item.done = min(item.done + count, item.file.size)
        pulse.beat()

    if not _is_right(item.place, item.file, checked, on_bytes):
        item.done = 0
        if not (item.plain and _link(item, checked, on_bytes)):
            _download(item, hub, checked, pulse)
    item.done = item.file.size
    pulse.beat()


def _is_right(
    path: Path, file: FileRecord, checked: Checked, on_bytes: Callable[[int], None]
) -> bool:
    if size_of_file(path) != file.size:
        return False
    if file.digest and (path, file.digest) not in checked:
        if digest_of(path, file.digest, on_bytes) != file.digest:
            return False
        checked.add(path, file.digest)
    return True


def _link(item: WantedFile, checked: Checked, on_bytes: Callable[[int], None]) -> bool:
    """Link ``item.place`` to an equal file elsewhere; return whether there is one."""
    for path in item.elsewhere:
        if not _same_file(path, item.place) and _is_right(path, item.file, checked, on_bytes):
            _clear(item)
            item.place.symlink_to(path.resolve())
            return True
        item.done = 0
    return False


def _download(item: WantedFile, hub: Hub, checked: Checked, pulse: Pulse) -> None:
    """Download the file; if its digest is wrong, remove it and download it once more."""
    for _ in range(2):
        _throw_away(item)
        item.active = True
        try:
            got = Path(
                hub.download(
                    item.repo,
                    item.commit,
                    item.file.path,
                    item.partial_bytes,
                    local_dir=str(item.partial) if item.plain else None,
                )
            )
        finally:
            item.active = False
        item.done = item.file.size
        if got.stat().st_size == item.file.size and (
            not item.file.digest
            or digest_of(got, item.file.digest, lambda n: pulse.beat()) == item.file.digest
        ):
            if item.plain:
                _place(item, got)
            checked.add(item.place, item.file.digest)
            return
        if item.plain:
            shutil.rmtree(item.partial, ignore_errors=True)
    _throw_away(item)
    raise EasiError(
        f"{item.file.path} of {item.repo} was received damaged: its checksum differs from the "
        f"hub's",
        hint="a proxy or a mirror (HF_ENDPOINT) may change it; run again, or try another one",
    )


def _place(item: WantedFile, got: Path) -> None:
    _clear(item)
    got.replace(item.place)
    shutil.rmtree(item.partial, ignore_errors=True)


def tidy(items: Iterable[WantedFile]) -> None:
    """Remove the empty folders of partial downloads; no thread may be downloading any more."""
    for folder in {item.partial.parent for item in items if item.plain}:
        with contextlib.suppress(OSError):  # absent, or it holds an interrupted download
            folder.rmdir()


def _clear(item: WantedFile) -> None:
    """Remove the previous version of a plain file, and the files derived from it."""
    item.place.parent.mkdir(parents=True, exist_ok=True)
    for path in item.derived:
        path.unlink(missing_ok=True)
    if item.place.exists():
        item.note = f"{item.place} differed from {item.repo} and was replaced"
    item.place.unlink(missing_ok=True)


def _throw_away(item: WantedFile) -> None:
    """Remove a wrong or dangling file of a snapshot together with its blob.

    The hub's client does not check an existing blob, so it would keep a wrong one forever. A
    partial download that is longer than the file is wrong as well and is removed.
    """
    if item.plain:
        return
    place = item.place
    if place.is_symlink() or place.exists():
        blob = place.resolve()
        place.unlink()
        if blob.parent.name == "blobs":
            blob.unlink(missing_ok=True)
    if item.partial_bytes() > item.file.size:
        item.partial.unlink(missing_ok=True)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
