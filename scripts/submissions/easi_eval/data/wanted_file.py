"""A file that is to be on disk: where it goes, where it may be found, how much of it is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .local_store import size_of_file
from .needs import FileRecord, Repo

PARTIAL = ".easi-partial"


@dataclass
class WantedFile:
    """A file that is to be on disk.

    Attributes:
        repo: The repository that holds it.
        commit: The commit of the repository.
        file: Path, size and digest as the hub describes them.
        place: Where it goes.
        plain: True if ``place`` is a file in the user's own folder; false if it is a link in a
            snapshot of the hub cache.
        elsewhere: Files that may be the same and can be linked instead of downloaded.
        derived: Files that other programs make from a plain file; removed when it changes.
        active: True while it is downloaded.
        done: Bytes that have arrived or are checked.
        note: A message for the user; "" if there is none.
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
        """Where an interrupted download is kept to be continued.

        For a plain file it is a folder of this program, else a file of the hub's client.
        """
        if self.plain:
            return self.place.parent / PARTIAL / self.file.digest
        return (
            self.place.parents[self.file.path.count("/") + 2]
            / "blobs"
            / f"{self.file.digest}.incomplete"
        )

    def partial_bytes(self) -> int:
        """Return the bytes of an interrupted or running download on disk."""
        if self.plain:
            # os.walk ignores folders that another thread removes meanwhile.
            return sum(
                size_of_file(Path(folder, name)) or 0
                for folder, _, names in os.walk(self.partial)
                for name in names
            )
        return size_of_file(self.partial) or 0

    def bytes_now(self) -> int:
        """Return the bytes that are there, for progress bars; reads the disk only when active."""
        return (
            max(self.done, min(self.partial_bytes(), self.file.size)) if self.active else self.done
        )

    def looks_present(self) -> bool:
        """Return whether a file of the right size is at ``place`` or ``elsewhere``."""
        return any(size_of_file(path) == self.file.size for path in (self.place, *self.elsewhere))
