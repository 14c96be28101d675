"""The tiny data and model that ``--smoke`` serves; README.md beside says how they are made."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import tempfile
from pathlib import Path

from ...core.errors import EasiError

ARCHIVE = Path(__file__).with_name("hub.tar.xz")


def unpack(home: Path, archive: Path = ARCHIVE) -> Path:
    """Unpack what the local hub serves into ``home``, once per version of the archive.

    The tree gets its name when it is whole, so an interruption leaves no incomplete one.

    Returns:
        The tree's folder.

    Raises:
        EasiError: The archive is damaged.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    root = home / f"hub-{digest[:12]}"
    if not root.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hub-", dir=home) as part:
            try:
                with tarfile.open(archive) as tar:
                    if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4
                        tar.extraction_filter = tarfile.data_filter
                    tar.extractall(f"{part}/tree")
            except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
                raise EasiError(
                    f"{archive} is damaged: {error}",
                    hint=f"git checkout {archive} (or clone EASI again)",
                ) from error
            try:
                Path(part, "tree").rename(root)
            except OSError:
                if not root.exists():  # else another smoke run was first
                    raise
    return root
