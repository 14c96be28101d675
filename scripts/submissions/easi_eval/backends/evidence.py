"""The evidence that a benchmark is complete: its numbers and the digests of its files.

It is stored as ``evidence.json`` beside those files.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.atomic_files import file_digest, read_json, write_json
from ..scores.interval import Interval
from ..scores.score_table import BenchmarkScore, Pool, Reading, State

SCHEMA = 2
EVIDENCE_FILE = "evidence.json"


@dataclass(frozen=True)
class Evidence:
    """What ``outputs/<key>/`` was accepted on.

    Attributes:
        fingerprint: Fingerprint of the settings it was made under.
        score: Its numbers.
        files: SHA-256 (hexadecimal) by path relative to the folder.
        limit: Value of ``--limit``; None for all questions.
        adopted: Name of the folder it was imported from; empty for results of this program.
        schema: Version of the file format.
    """

    fingerprint: str
    score: BenchmarkScore
    files: Mapping[str, str]
    limit: int | None = None
    adopted: str = ""
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
        )
        return (
            found
            if found.files == digests(folder, [folder / name for name in found.files])
            else None
        )


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file; empty for a missing one."""
    found = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            found[name] = ""
            continue
        stat = path.stat()
        found[name] = _digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


@functools.cache
def _digest(path: Path, *identity: int) -> str:
    """Return the SHA-256 of a file, cached by its inode, size and time of change.

    One run checks the same files up to four times, hundreds of megabytes of them.
    """
    return file_digest(path)
