"""A results archive that was opened: its index, its manifest, and what its files prove."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...benchmarks import ALL_KEYS
from ...core.errors import EasiError
from ..base import Reader
from .index import INDEX, MANIFEST, ROWS, Index
from .old_forms import unfold
from .proof import ArchivedRun, prove
from .proven import REFUSED, Proof
from .safe_zip import read_archive


@dataclass(frozen=True)
class OpenedArchive:
    """An archive in memory, whoever made it.

    Attributes:
        path: The file.
        members: Content of each file in it, by name.
        index: Its ``archive.json``.
        source: The run that its manifest describes.
    """

    path: Path
    members: Mapping[str, bytes]
    index: Index
    source: ArchivedRun

    @classmethod
    def read(cls, path: Path, make: Callable[[str], Reader]) -> OpenedArchive:
        """Open an archive; ``make`` returns a backend by its name.

        Raises:
            EasiError: It is not a results archive, or it is not safe to open.
        """
        members = read_archive(path)
        index = Index.from_json(_json(members, INDEX))
        return cls(path, members, index, ArchivedRun.of(_json(members, MANIFEST), make))

    def json(self, name: str) -> Any:
        """Return a member that holds a JSON object; EasiError if there is none."""
        return _json(self.members, name)

    @property
    def tables(self) -> dict[str, bytes]:
        """The per-question tables as CSV, by name."""
        return {
            name.removeprefix(ROWS).removesuffix(".csv"): data
            for name, data in self.members.items()
            if name.startswith(ROWS)
        }

    def prove(self, *, by_tables: bool) -> dict[str, Proof]:
        """Compute the score of each benchmark again.

        Args:
            by_tables: Take questions from the tables, not from the backend's per-question files.

        Raises:
            EasiError: A file that the index names is missing.
        """
        with tempfile.TemporaryDirectory(prefix="easi-archive-") as name:
            folder = Path(name)
            try:
                unfold(self.members, self.index, folder)
            except KeyError as error:
                raise EasiError(f"{self.path} lacks {error}", hint=REFUSED) from error
            keys = [
                key
                for key in ALL_KEYS
                if any(file.startswith(f"{key}/") for file in self.index.files)
            ]
            tables = self.tables if by_tables else None
            return {key: prove(self.source, key, folder / key, tables) for key in keys}


def _json(members: Mapping[str, bytes], name: str) -> Any:
    try:
        value = json.loads(members[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise EasiError(f"the archive has no readable {name} ({error!r})", hint=REFUSED) from error
    if not isinstance(value, dict):
        raise EasiError(f"{name} of the archive holds no object", hint=REFUSED)
    return value
