"""Files written whole or not at all, JSON files, and digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from .errors import DiskFull, EasiError, is_full


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write the whole file under a temporary name and rename it; create its folder.

    If the process is killed, the file has either its old or its new content. ``mode`` are its
    permissions, less the umask.

    Raises:
        OSError: It cannot be written; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb"
        ) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file with ``replace_file``.

    Raises:
        EasiError: The disk is full (DiskFull) or cannot be written to.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    try:
        replace_file(path, data, mode)
    except OSError as error:
        if is_full(error):
            raise DiskFull(
                f"{path} cannot be written: {error.strerror}; it has {len(data):,} bytes, "
                f"{_free(path):,} are free",
                "what was written before is kept",
            ) from error
        raise EasiError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="free some space, or give another --output-dir",
        ) from error


def update(path: Path, content: str | bytes) -> None:
    """Write a file with ``write_atomic``, unless it has this content: waiting for a disk is slow.

    Raises:
        EasiError: As ``write_atomic``.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


def _free(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return 0


def write_json(path: Path, value: object, mode: int = 0o666) -> None:
    """Write readable JSON with ``write_atomic``.

    Raises:
        EasiError: The file cannot be written.
        ValueError: The value contains NaN or an infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; escapes keep them exactly.
        data = (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")
    write_atomic(path, data, mode)


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        EasiError: The file is missing, truncated or not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EasiError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="is this the output folder of a run?",
        ) from error
    except ValueError as error:
        raise EasiError(
            f"{path} is damaged: {error}", hint="move the file away and start again"
        ) from error


def digest(value: object) -> str:
    """Return the SHA-256 of a value as canonical JSON, independent of the order of keys.

    Raises:
        TypeError: The value cannot be written as JSON.
        ValueError: It contains NaN or an infinity.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8; lone surrogates are kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path, kind: str = "sha256") -> str:
    """Return the digest of a file, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
