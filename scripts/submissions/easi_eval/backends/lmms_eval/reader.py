"""Read what lmms-eval wrote, and what is reported beside its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import Benchmark
from ...config import RunConfig
from ...data.needs import HubSettings
from ...scores.outputs import Outputs, Survey
from ..base import DatasetMatch
from ..shared.dataset_match import refuse_repeated
from . import FACTS

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.score_table import BenchmarkScore, Reading


class LmmsEvalReader:
    """Reads the files of lmms-eval. Its methods load pandas when they are called."""

    name = FACTS.name
    payload_name = "lmmseval"

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def outputs(
        self, bench: Benchmark, folder: Path, judge: str = "", *, whole: bool = True
    ) -> Outputs:
        """Find the files of one benchmark in ``folder``."""
        from .result_files import find_lmms_outputs

        return find_lmms_outputs(bench, folder, whole=whole)

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``scores.row_table.ROW_COLUMNS``."""
        from .question_rows import read_lmms_rows

        return read_lmms_rows(bench, out)

    def questions(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return ``rows()`` with the prompts of the samples."""
        from .question_rows import read_lmms_rows

        return read_lmms_rows(bench, out, asked=True)

    def scored_rows(
        self, cfg: RunConfig, bench: Benchmark, out: Outputs, rows: pd.DataFrame
    ) -> pd.DataFrame:
        """Return the rows, corrected unless ``--no-corrections`` is given."""
        from .corrections import all_corrected

        return rows if cfg.no_corrections else all_corrected(bench, out, rows)

    def excerpts(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> dict[Path, bytes]:
        """Return the members of samples that corrections and counted caveats read."""
        from .caveats import excerpts

        return excerpts(bench, out, rows)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files."""
        return read_lmms_scores(bench, out, rows)

    def annotate(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """Return ``score`` with its notes and corrections.

        Corrected values are the headline, unless ``--no-corrections`` is given.
        """
        from .caveats import annotate

        return annotate(bench, out, rows, score, scorer_notes, wanted=not cfg.no_corrections)

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows."""
        from .result_files import lmms_total

        return lmms_total(bench, out)

    def survey(self, folder: Path, keys: Iterable[str], judge: str = "") -> Survey | None:
        """Return what ``folder`` holds of lmms-eval; None if nothing."""
        from .survey import survey

        return survey(folder, keys)

    def check_adopted(
        self, cfg: RunConfig, bench: Benchmark, folder: Path, method: str
    ) -> DatasetMatch:
        """Compare files with the dataset in the hub's cache, if it is there."""
        from .dataset_check import compare_with_cache

        out = self.outputs(bench, folder)
        rows = self.rows(bench, out)
        refuse_repeated(rows)
        return compare_with_cache(bench, out, rows, self.hub)


def read_lmms_scores(bench: Benchmark, out: Outputs, rows: pd.DataFrame | None = None) -> Reading:
    """Read the headline and the sub-scores, 0-100.

    Args:
        bench: The benchmark.
        out: Its files.
        rows: The per-question table, if it has been read already. The table is needed for parts
            that have no metric of their own, and to tell a score of 0 from a question type that was
            not asked, which lmms-eval also writes as 0.
    """
    from ...scores.rows import reading
    from .question_rows import read_lmms_rows
    from .result_files import aggregate, read_results
    from .samples import source_of

    source = source_of(bench, out)
    path = out.scores[0]
    asked = read_lmms_rows(bench, out) if rows is None else rows
    return reading(source, aggregate(read_results(path)["results"], source), asked, str(path))
