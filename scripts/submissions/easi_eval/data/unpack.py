"""Unpack media archives so that a folder that looks complete is complete.

Files are checked by size and repaired, and a new folder is renamed into place at the end.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..core.atomic_files import replace_file
from ..core.errors import DiskFull, EasiError, NoRoom, is_full
from .archives import CHUNK, Archive, damage_named, members_of, read_members
from .disk import free_bytes, gigabytes

PART = ".easi-part"


@dataclass(frozen=True)
class Target:
    """Where archives are unpacked.

    Attributes:
        folder: The folder.
        marker: This program's record of what was unpacked, outside the folder.
        whole: True if ``folder`` must not exist before it is complete; false if it exists already,
            because it is a snapshot.
        sentinel: Name of the file in ``folder`` by which the backend knows that it is complete; ""
            for none.
        reserved: Paths in ``folder`` that belong to the repository; archives do not overwrite them.
    """

    folder: Path
    marker: Path
    whole: bool
    sentinel: str = ""
    reserved: frozenset[str] = frozenset()


@dataclass
class MediaContents:
    """The files in archives.

    Attributes:
        wanted: By path in the folder: the archive, the name of the member, and its size in bytes.
    """

    wanted: dict[str, tuple[Archive, str, int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size for _, _, size in self.wanted.values())


def unpack(
    target: Target, archives: Sequence[Archive], on_bytes: Callable[[int, int], None]
) -> None:
    """Unpack archives, so that every file is in ``target`` with its size.

    Existing files of the right size are kept, unless their archive changed. A crash at any point
    leaves either no folder (``target.whole``) or a folder that the next call repairs, and no
    sentinel.

    Args:
        target: Where the files go.
        archives: The archives.
        on_bytes: Called with (done, total) as bytes are written.

    Raises:
        NoRoom: The disk has less free space than needed; nothing was written.
        DiskFull: The disk became full meanwhile.
        EasiError: An archive is damaged, or would write outside the folder.
    """
    done = _read_marker(target.marker)
    # A new folder has another name until it is complete; an existing one, which may be partial, is
    # repaired in place.
    growing = target.whole and not target.folder.exists()
    folder = _growing_folder(target) if growing else target.folder
    contents = list_contents(archives, last_wins=not target.whole, reserved=target.reserved)
    missing = _missing(folder, contents, done)
    sentinel = target.folder / target.sentinel if target.sentinel else None
    state = {archive.name: archive.digest for archive in archives}
    if missing:
        need = sum(contents.wanted[path][2] for path in missing)
        if need > free_bytes(folder):
            raise NoRoom(
                f"unpacking into {target.folder} needs {gigabytes(need)}, "
                f"{gigabytes(free_bytes(folder))} are free",
                hint="free some space, or set HF_HOME to a larger disk",
            )
        if sentinel is not None:
            sentinel.unlink(missing_ok=True)
        # The empty digest of a changed archive makes the next call write all its files again, if
        # this one does not finish. Otherwise old files of the same size would be kept.
        changed = {name for name, digest in state.items() if done.get(name, digest) != digest}
        _write_marker(
            target.marker,
            {name: "" if name in changed else digest for name, digest in state.items()},
        )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _extract(folder, contents, missing, on_bytes, total=need)
        except OSError as error:
            if not is_full(error):
                raise
            (folder / PART).unlink(missing_ok=True)
            left = sum(contents.wanted[path][2] for path in _missing(folder, contents, {}))
            raise DiskFull(
                f"the disk of {target.folder} is full: archives could not be unpacked, "
                f"{gigabytes(left)} are still to come, "
                f"{gigabytes(free_bytes(folder))} are free ({error.strerror})",
                "the archives and what was unpacked are kept",
            ) from error
    if growing:
        folder.mkdir(parents=True, exist_ok=True)
        folder.rename(target.folder)
    if done != state or missing:
        _write_marker(target.marker, state)
    if sentinel is not None and not sentinel.is_file():
        replace_file(sentinel, b"done")


def bytes_missing(target: Target, archives: Sequence[Archive]) -> int:
    """Return the bytes that unpacking would still write."""
    contents = list_contents(archives, last_wins=not target.whole, reserved=target.reserved)
    folder = (
        _growing_folder(target) if target.whole and not target.folder.exists() else target.folder
    )
    return sum(
        contents.wanted[path][2] for path in _missing(folder, contents, _read_marker(target.marker))
    )


def _growing_folder(target: Target) -> Path:
    return target.folder.with_name(f".{target.folder.name}.easi-partial")


def is_unpacked(target: Target, archives: Sequence[Archive]) -> bool:
    """Return whether every file is there with its size, and the sentinel; writes nothing."""
    if not target.folder.exists() or (
        target.sentinel and not (target.folder / target.sentinel).is_file()
    ):
        return False
    contents = list_contents(archives, last_wins=not target.whole, reserved=target.reserved)
    return not _missing(target.folder, contents, _read_marker(target.marker))


def mark(target: Target, archives: Sequence[Archive]) -> None:
    """Record what a folder that was found complete holds, to notice a later change of archives."""
    state = {archive.name: archive.digest for archive in archives}
    if _read_marker(target.marker) != state:
        _write_marker(target.marker, state)


def list_contents(
    archives: Sequence[Archive], last_wins: bool, reserved: frozenset[str] = frozenset()
) -> MediaContents:
    """Return the files of all archives.

    Args:
        archives: The archives.
        last_wins: Which of two files with the same path counts: the last, as in VLMEvalKit, or the
            first, as in lmms-eval.
        reserved: Paths to leave out.

    Raises:
        EasiError: An archive is damaged, or would write outside the folder.
    """
    contents = MediaContents()
    for archive in archives:
        for member, size in members_of(archive):
            path = _inside(archive, member)
            if path not in reserved and (last_wins or path not in contents.wanted):
                contents.wanted[path] = (archive, member, size)
    return contents


def _inside(archive: Archive, member: str) -> str:
    """Return a member's path in the folder; names that lead out of it are an EasiError."""
    path = posixpath.normpath(member).lstrip("/")
    if path.split("/")[0] == ".." or path in ("", ".") or "\0" in path:
        raise EasiError(
            f"{archive.name} holds the unsafe path {member!r}; nothing of it was unpacked",
            hint="report it to the owner of the data set",
        )
    return path


def _missing(folder: Path, contents: MediaContents, done: dict[str, str]) -> list[str]:
    if not folder.exists():
        return list(contents.wanted)
    root, missing = str(folder), []
    for path, (archive, _, size) in contents.wanted.items():
        try:
            # For tens of thousands of files, Path objects would take seconds.
            there = os.stat(f"{root}/{path}").st_size == size  # noqa: PTH116
        except OSError:
            there = False
        if not there or done.get(archive.name, archive.digest) != archive.digest:
            missing.append(path)
    return missing


def _extract(
    folder: Path,
    contents: MediaContents,
    missing: Sequence[str],
    on_bytes: Callable[[int, int], None],
    total: int,
) -> None:
    by_archive: dict[Archive, dict[str, str]] = {}
    for path in missing:
        archive, member, _ = contents.wanted[path]
        by_archive.setdefault(archive, {})[member] = path
    written = 0
    for archive, members in by_archive.items():
        with damage_named(archive):
            for member, source in read_members(archive, members):
                for count in _write(folder / members[member], source):
                    written += count
                    on_bytes(written, total)


def _write(path: Path, source: IO[bytes]) -> Iterator[int]:
    """Copy to ``path`` through a temporary file; yield the bytes of each piece.

    zipfile tests the checksum of a member while it is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(PART)
    with part.open("wb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
            yield len(chunk)
    part.replace(path)


def _read_marker(path: Path) -> dict[str, str]:
    """Return the digests of the unpacked archives by name.

    Empty if there is no record or it is damaged; then sizes alone decide which files are kept.
    """
    try:
        archives = json.loads(path.read_text(encoding="utf-8"))["archives"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(archives)


def _write_marker(path: Path, archives: dict[str, str]) -> None:
    replace_file(path, json.dumps({"by": "easi-eval", "archives": archives}, indent=1).encode())
