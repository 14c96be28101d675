"""What an archive proves about one benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...scores.score_table import BenchmarkScore

if TYPE_CHECKING:
    import pandas as pd

REFUSED = "it is not a results archive, or it was modified; it was not unpacked"


@dataclass
class Proof:
    """What an archive proves about one benchmark.

    Attributes:
        tables: The per-question tables as CSV by name: the benchmark's key, and another one by
            rules if a judge's score counts.
        kept: By path in the benchmark's folder: the files that prove the score together with the
            tables.
        score: The recomputed score, or None.
        questions: The per-question table behind it, with the scores that count.
        problem: Why there is none.
    """

    tables: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    score: BenchmarkScore | None = None
    questions: pd.DataFrame | None = None
    problem: str = ""

    @property
    def rows(self) -> int:
        """Number of questions."""
        return count_rows(next(reversed(self.tables.values()), b""))


def count_rows(table: bytes) -> int:
    """Return the number of questions of a per-question table as CSV, which escapes line breaks."""
    return max(0, table.count(b"\n") - 1)
