"""The members of media archives: zips, and tars in several parts."""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..core.errors import EasiError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A zip, or a tar in several parts.

    Attributes:
        name: File name; a joined tar ends with ``.tar``.
        parts: The files, in the order in which they are joined; a zip has one.
        digest: Changes when the content does.
    """

    name: str
    parts: tuple[Path, ...]
    digest: str

    @property
    def is_zip(self) -> bool:
        """True for a zip, false for a tar."""
        return self.name.endswith(".zip")


def root_zips(files: Sequence[str]) -> list[str]:
    """Return the archives that VLMEvalKit unpacks: the zips at the root of the snapshot."""
    return sorted(name for name in files if "/" not in name and name.endswith(".zip"))


def media_archives(files: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the archives that lmms-eval unpacks, as (name, parts).

    These are all zips or, if there is no zip, all tars, joined from their parts.
    """
    zips = sorted(name for name in files if name.endswith(".zip"))
    if zips:
        return [(name, (name,)) for name in zips]
    groups: dict[str, list[str]] = {}
    for name in sorted(name for name in files if ".tar" in posixpath.basename(name)):
        groups.setdefault(re.sub(r"_\d+$", "", name.split(".tar")[0]), []).append(name)
    return [(f"{base}.tar", tuple(parts)) for base, parts in sorted(groups.items())]


def members_of(archive: Archive) -> Iterator[tuple[str, int]]:
    """Yield the names of the files in an archive and their sizes in bytes."""
    with damage_named(archive):
        if archive.is_zip:
            with zipfile.ZipFile(archive.parts[0]) as file:
                yield from [
                    (info.filename, info.file_size) for info in file.infolist() if not info.is_dir()
                ]
        else:
            with _open_tar(archive) as tar:
                yield from [(info.name, info.size) for info in tar if info.isfile()]


def read_members(archive: Archive, members: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the names of the ``members`` and file objects with their contents."""
    if archive.is_zip:
        with zipfile.ZipFile(archive.parts[0]) as file:
            for member in members:
                with file.open(member) as source:
                    yield member, source
    else:
        with _open_tar(archive) as tar:
            for info in tar:
                wanted = info.name in members and info.isfile()
                content = tar.extractfile(info) if wanted else None
                if content is not None:
                    yield info.name, content


@contextlib.contextmanager
def damage_named(archive: Archive) -> Iterator[None]:
    """Turn errors of reading into an EasiError that names the archive and how to replace it."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise EasiError(
            f"{archive.name} is damaged: {error}",
            hint=f"delete {archive.parts[0].resolve()} and run again",
        ) from error


class _Joined(io.RawIOBase):
    """A file object that reads several files as one, without a joined copy on disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._ends: list[int] = []
        for path in paths:
            self._ends.append((self._ends[-1] if self._ends else 0) + path.stat().st_size)
        self._at = 0
        self._open: tuple[int, IO[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        )
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        index = next((i for i, end in enumerate(self._ends) if self._at < end), None)
        if index is None:
            return 0
        if self._open is None or self._open[0] != index:
            self._close_part()
            self._open = (index, self._paths[index].open("rb"))
        file = self._open[1]
        file.seek(self._at - (self._ends[index - 1] if index else 0))
        view = memoryview(buffer)
        data = file.read(len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._close_part()
        super().close()

    def _close_part(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


@contextlib.contextmanager
def _open_tar(archive: Archive) -> Iterator[tarfile.TarFile]:
    with (
        io.BufferedReader(_Joined(archive.parts), CHUNK) as joined,
        tarfile.open(fileobj=joined, mode="r:*") as tar,
    ):
        yield tar
