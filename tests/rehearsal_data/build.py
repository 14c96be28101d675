"""Build what ``--smoke`` serves, and the archive of it that the program ships.

    python tests/rehearsal_data/build.py [FOLDER]

FOLDER receives the tree, too. The archive's bytes are the same every time; with other versions of
the libraries that encode pictures, videos and tables they may be others of equal content.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from easi_eval.config import TINY_MODEL
from easi_eval.data.rehearsal import ARCHIVE
from rehearsal_data import checkpoint, repositories

SEED = 20260801
TIME = 1704067200  # of every file in the archive: 2024-01-01


def tree(root: Path) -> Path:
    """Write data and model below ``root``, as the local hub serves them, and return ``root``."""
    repositories.build(root, SEED)
    checkpoint.build(root / "models" / TINY_MODEL)
    return root


def pack(root: Path, archive: Path) -> None:
    """Write the files below ``root`` as an archive that depends on their names and bytes alone."""
    with tarfile.open(archive, "w:xz", preset=6, format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(path.relative_to(root).as_posix())
            info.size, info.mtime = path.stat().st_size, TIME
            with path.open("rb") as file:
                tar.addfile(info, file)


def main() -> None:
    """Write the archive, and the tree where it was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        pack(tree(Path(sys.argv[1] if len(sys.argv) > 1 else folder)), ARCHIVE)
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
