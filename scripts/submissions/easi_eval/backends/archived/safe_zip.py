"""Open a results archive from an untrusted source.

Anything that this program would not put into an archive is rejected before its contents are parsed.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from pathlib import Path

from ...core.errors import EasiError
from .proven import REFUSED

MOST_FILES = 2_000
MOST_PACKED = 512 << 20
MOST_BYTES = 1 << 30  # unpacked; the largest archive of a full run has a quarter of this size
MOST_RATIO = 1_000  # compression ratio of one member; deflate cannot exceed 1,032
MOST_XML = 512 << 20  # of one workbook, unpacked
NAME = re.compile(r"[^/\\\x00-\x1f:]+(?:/[^/\\\x00-\x1f:]+)*")


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the contents of every member by name.

    Raises:
        EasiError: The file is not a zip file, or it exceeds the limits of this module, or a member
            has an unsafe name, is not a plain file, or does not have the size that it declares.
    """
    try:
        if path.stat().st_size > MOST_PACKED:
            raise _refused(path, f"it has {path.stat().st_size:,} bytes")
        with zipfile.ZipFile(path) as zipped:
            _check_members(path, zipped.infolist())
            return {info.filename: _read(path, zipped, info) for info in zipped.infolist()}
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:
        hint = (
            "name the archive, easi_results.zip, not its payload"
            if path.suffix == ".json"
            else "is it a complete zip file?"
        )
        raise EasiError(f"{path} cannot be read: {error}", hint=hint) from error


def _check_members(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MOST_FILES:
        raise _refused(path, f"it has {len(infos):,} files")
    if sum(info.file_size for info in infos) > MOST_BYTES:
        raise _refused(path, f"it would unpack to {sum(info.file_size for info in infos):,} bytes")
    seen: set[str] = set()
    for info in infos:
        name = info.filename
        parts = name.split("/")
        if info.is_dir():
            raise _refused(path, f"{name!r} is an entry of a folder (zip -D makes none)")
        if not NAME.fullmatch(name) or ".." in parts or "." in parts:
            raise _refused(path, f"the name {name!r} points outside the archive")
        if name.casefold() in seen:
            raise _refused(path, f"it has {name!r} twice")
        seen.add(name.casefold())
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _refused(path, f"{name!r} is no plain file")
        if info.flag_bits & 0x1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise _refused(path, f"{name!r} is encrypted or packed in an unusual way")
        if info.file_size > MOST_RATIO * max(info.compress_size, 1_000):
            raise _refused(
                path,
                f"{name!r} would unpack to {info.file_size:,} bytes from {info.compress_size:,}",
            )


def _read(path: Path, zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return one member; never read more than its declared size. Workbooks are checked, too."""
    with zipped.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise _refused(path, f"{info.filename!r} is larger or smaller than its entry says")
    if info.filename.endswith(".xlsx"):
        _check_workbook(path, info.filename, data)
    return data


def _check_workbook(path: Path, name: str, data: bytes) -> None:
    """Check an xlsx file, which is a zip of XML: the size limits, and no entity definitions.

    Entity definitions could expand to huge texts when the XML is parsed.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        infos = book.infolist()
        if len(infos) > MOST_FILES or sum(info.file_size for info in infos) > MOST_XML:
            raise _refused(path, f"the workbook {name!r} is too large")
        for info in infos:
            if info.file_size > MOST_RATIO * max(info.compress_size, 1_000):
                raise _refused(
                    path, f"the workbook {name!r} would unpack to {info.file_size:,} bytes"
                )
            with book.open(info) as part:
                xml = part.read(info.file_size + 1)
            if (
                len(xml) != info.file_size
                or b"<!DOCTYPE" in xml[:4096]
                or b"<!ENTITY" in xml[:4096]
            ):
                raise _refused(path, f"the workbook {name!r} is not one that a backend writes")


def _refused(path: Path, why: str) -> EasiError:
    return EasiError(f"{path} is refused: {why}", hint=REFUSED)
