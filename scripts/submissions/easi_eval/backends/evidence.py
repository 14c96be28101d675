"""The evidence that a benchmark is complete: its numbers and the digests of its files.

It is stored as ``evidence.json`` beside those files.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..core.atomic_files import file_digest, read_json, write_json
from ..scores.interval import Interval
from ..scores.score_table import BenchmarkScore, Pool, Reading, State

SCHEMA = 2
EVIDENCE_FILE = "evidence.json"
SETTLED = 3_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Evidence:
    """What ``outputs/<key>/`` was accepted on.

    Attributes:
        fingerprint: Fingerprint of the settings it was made under.
        score: Its numbers.
        files: SHA-256 (hexadecimal) by path relative to the folder.
        limit: Value of ``--limit``; None for all questions.
        adopted: Name of the folder it was imported from; empty for results of this program.
        seen: What the file system said of a file when it had its digest; a file that is still the
            same by that is not read again.
        schema: Version of the file format.
    """

    fingerprint: str
    score: BenchmarkScore
    files: Mapping[str, str]
    limit: int | None = None
    adopted: str = ""
    seen: Mapping[str, Sequence[int]] = field(default_factory=dict)
    schema: int = SCHEMA

    def save(self, folder: Path) -> None:
        """Write ``evidence.json`` into ``folder``."""
        write_json(folder / EVIDENCE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Evidence | None:
        """Load ``evidence.json`` from ``folder``.

        Returns:
            None if there is none, if it has another schema, or if one of the files has changed
            since.
        """
        path = folder / EVIDENCE_FILE
        if not path.exists():
            return None
        data = read_json(path)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            return None
        score = data["score"]
        found = cls(
            data["fingerprint"],
            BenchmarkScore(
                **{
                    **score,
                    "reading": Reading(**score["reading"]),
                    "state": State(score["state"]),
                    "pools": {name: Pool(**pool) for name, pool in score["pools"].items()},
                    "by_method": {
                        name: Reading(**each) for name, each in score["by_method"].items()
                    },
                    "notes": tuple(score["notes"]),
                    "warnings": tuple(score.get("warnings", ())),
                    "intervals": {
                        name: Interval(**each) for name, each in score.get("intervals", {}).items()
                    },
                }
            ),
            data["files"],
            data["limit"],
            data.get("adopted", ""),
            data.get("seen", {}),
        )
        still = found._still(folder)
        unknown = [folder / name for name in found.files if name not in still]
        same = {**found.files, **digests(folder, unknown)} == found.files
        return found if same else None

    def _still(self, folder: Path) -> dict[str, Sequence[int]]:
        """Return what of ``seen`` is still so."""
        return {
            name: seen
            for name, seen in self.seen.items()
            if (path := folder / name).is_file() and _identity(path) == seen
        }

    def with_seen(self, folder: Path) -> Evidence:
        """Return the evidence with ``seen`` of the files that did not change for some seconds.

        After that the time tells a change, however coarse the clock of the file system is.
        """
        seen, before = self._still(folder), time.time_ns() - SETTLED
        for name, digest in self.files.items():
            path = folder / name
            if name not in seen and path.is_file():
                identity = _identity(path)
                if identity[-1] < before and digests(folder, [path])[name] == digest:
                    seen[name] = identity
        return replace(self, seen=seen)


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file; empty for a missing one."""
    found = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            found[name] = ""
            continue
        found[name] = _digest(path, *_identity(path))
    return found


def _identity(path: Path) -> list[int]:
    """Return what differs after any change of a file; no program can set the last of it."""
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


@functools.cache
def _digest(path: Path, *identity: int) -> str:
    """Return the SHA-256 of a file, cached by ``_identity``.

    One run checks the same files up to four times, hundreds of megabytes of them.
    """
    return file_digest(path)
