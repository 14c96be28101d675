"""Bring single files to disk: found and checked, linked from elsewhere, or downloaded; whole and right, or absent."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import EasiError, is_full
from .hub import Hub, Repo
from .needs import FileRecord
from .parallel import Pulse
from .store import Checked, digest_of, size_of_file

PARTIAL = ".easi-partial"


@dataclass
class Item:
    """One file to have. ``place`` is where: a link in a snapshot, or (``plain``) a file in the user's own folder.

    ``elsewhere`` are files that may be the same and can be linked instead; ``derived`` are removed when a plain
    file changes. ``done`` grows to the file's size as its bytes arrive or are checked.
    """

    repo: Repo
    commit: str
    file: FileRecord
    place: Path
    plain: bool
    elsewhere: tuple[Path, ...] = ()
    derived: tuple[Path, ...] = ()
    active: bool = False
    done: int = 0
    note: str = ""

    @property
    def partial(self) -> Path:
        """Where a broken-off download waits to be continued: a file of the hub client's, or a folder of ours."""
        if self.plain:
            return self.place.parent / PARTIAL / self.file.digest
        return (
            self.place.parents[self.file.path.count("/") + 2]
            / "blobs"
            / f"{self.file.digest}.incomplete"
        )

    def partial_bytes(self) -> int:
        if self.plain:
            # os.walk passes over what another thread removes meanwhile
            return sum(
                size_of_file(Path(folder, name)) or 0
                for folder, _, names in os.walk(self.partial)
                for name in names
            )
        return size_of_file(self.partial) or 0

    def bytes_now(self) -> int:
        """For progress bars; asks the disk only while a download runs."""
        return (
            max(self.done, min(self.partial_bytes(), self.file.size)) if self.active else self.done
        )

    def looks_present(self) -> bool:
        """By size alone, here or where it could be linked from."""
        return any(size_of_file(path) == self.file.size for path in (self.place, *self.elsewhere))


def bring(item: Item, hub: Hub, checked: Checked, pulse: Pulse) -> None:
    """Make ``item.place`` the file the hub describes. Raises EasiError; never leaves a wrong file there."""

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


def _link(item: Item, checked: Checked, on_bytes: Callable[[int], None]) -> bool:
    """Point ``item.place`` at an equal file found elsewhere."""
    for path in item.elsewhere:
        if not _same_file(path, item.place) and _is_right(path, item.file, checked, on_bytes):
            _clear(item)
            item.place.symlink_to(path.resolve())
            return True
        item.done = 0
    return False


def _download(item: Item, hub: Hub, checked: Checked, pulse: Pulse) -> None:
    """Twice at most: a file whose bytes are wrong is thrown away and fetched anew once."""
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
        f"{item.file.path} of {item.repo} arrives damaged: its checksum is not the hub's",
        hint="a proxy or a mirror (HF_ENDPOINT) may change it; run again, or try another one",
    )


def _place(item: Item, got: Path) -> None:
    _clear(item)
    got.replace(item.place)
    shutil.rmtree(item.partial, ignore_errors=True)


def tidy(items: Iterable[Item]) -> None:
    """Remove the empty folders of partial downloads, once no thread is about to use one."""
    for folder in {item.partial.parent for item in items if item.plain}:
        with contextlib.suppress(OSError):  # never made, or it keeps a download that was broken off
            folder.rmdir()


def _clear(item: Item) -> None:
    """Make room for a plain file: what was there, and what others made from it, is out of date."""
    item.place.parent.mkdir(parents=True, exist_ok=True)
    for path in item.derived:
        path.unlink(missing_ok=True)
    if item.place.exists():
        item.note = f"{item.place} differed from {item.repo} and was replaced"
    item.place.unlink(missing_ok=True)


def _throw_away(item: Item) -> None:
    """Remove a wrong or dangling file of a snapshot with the blob behind it, or the client would keep it for ever.
    A partial download that is longer than the whole can only be wrong.
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


def existing_parent(path: Path) -> Path:
    """The nearest folder above (or at) ``path`` that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def refuse_unwritable(place: Path) -> None:
    """Refuse a place where nothing can be written, by writing there: permissions alone do not tell."""
    folder = existing_parent(place)
    try:
        Path(tempfile.mkdtemp(prefix=".easi-", dir=folder)).rmdir()
    except OSError as error:
        if is_full(error):
            return  # it can be written to, but for the space, which is looked at by itself
        why = "it is a file" if folder.is_file() else error.strerror or str(error)
        raise EasiError(
            f"nothing can be written to {folder}: {why}",
            hint="HF_HOME and --dataset-dir choose other places",
        ) from error


def free_bytes(path: Path) -> int:
    """Free space where ``path`` is or would be."""
    return shutil.disk_usage(existing_parent(path)).free


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
