"""A finished run as data; ``load_run.py`` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.base import Reader
from ..benchmarks import Benchmark, Source, by_key
from ..core.manifest import Manifest
from ..core.run_folder import RunPaths
from ..scores.outputs import JUDGED
from ..scores.score_table import BenchmarkScore, ScoreTable

if TYPE_CHECKING:
    import pandas as pd


def questions_of(reader: Reader, score: BenchmarkScore, paths: RunPaths) -> pd.DataFrame:
    """Return a benchmark's questions with their texts, a table of ``Reader.questions``."""
    bench, folder = by_key(score.key), paths.output(score.key)
    judged = (folder / JUDGED).is_dir()
    where = folder / JUDGED if judged else folder
    return reader.questions(bench, reader.outputs(bench, where, score.method if judged else ""))


@dataclass(frozen=True)
class EvaluatedBenchmark:
    """One benchmark of a finished run.

    Attributes:
        bench: The benchmark.
        source: Its entry for the run's backend and task.
        score: Its line of the score table.
        rows: Its questions, with ROW_COLUMNS and the scores that count.
        settings: Its settings from the manifest.
    """

    bench: Benchmark
    source: Source
    score: BenchmarkScore
    rows: pd.DataFrame
    settings: Mapping[str, object]


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished run.

    Attributes:
        path: Where it was read from.
        manifest: Its manifest.
        benchmarks: What it has results of, by key, in registry order.
        folder: Its run folder; None if it was read from an archive.
        notes: What users should know about how it was found and read.
    """

    path: Path
    manifest: Manifest
    benchmarks: Mapping[str, EvaluatedBenchmark]
    folder: RunPaths | None = None
    notes: tuple[str, ...] = ()

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return str(self.manifest.fields["backend"])

    @property
    def table(self) -> ScoreTable:
        """The scores of all benchmarks with results."""
        scores = tuple(one.score for one in self.benchmarks.values())
        return ScoreTable(scores, self.manifest.modelName, self.backend, self.manifest.identity)
