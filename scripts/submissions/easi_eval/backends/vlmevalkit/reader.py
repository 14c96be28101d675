"""Read what VLMEvalKit wrote, and what is reported beside its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import VLMEVALKIT, Benchmark, TsvData
from ...config import RunConfig
from ...core.errors import EasiError
from ...core.run_folder import sanitise
from ...data.needs import HubSettings
from ...scores import judging
from ...scores.outputs import Outputs, Survey
from ..base import DatasetMatch
from ..shared.dataset_match import refuse_repeated
from . import FACTS

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.score_table import BenchmarkScore, Reading


class VLMEvalKitReader:
    """Reads the files of VLMEvalKit. Its methods load pandas when they are called."""

    name = FACTS.name
    payload_name = "vlmevalkit"

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def outputs(
        self, bench: Benchmark, folder: Path, judge: str = "", *, whole: bool = True
    ) -> Outputs:
        """Find the files of one benchmark in ``folder``, those made with ``judge``.

        Raises:
            EasiError: If a file is missing, or VLMEvalKit read answers by rules although a model
                was to judge.
        """
        from .question_rows import read_by_rules
        from .result_files import find_vlmevalkit_outputs

        found = find_vlmevalkit_outputs(
            bench, folder, sanitise(judge) if judge else "", whole=whole
        )
        asked = whole and judge not in ("", *judging.BY_RULES)
        if asked and (count := read_by_rules(bench, found)):
            raise EasiError(
                f"VLMEvalKit scored {count} answers of {bench.title} by rules instead of asking "
                f"{judge}",
                hint="the log says why",
            )
        return found

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``scores.row_table.ROW_COLUMNS``."""
        from .question_rows import read_vlmevalkit_rows

        return read_vlmevalkit_rows(bench, out)

    def questions(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return ``rows()`` with the questions as far as the workbook has them."""
        from .question_rows import read_vlmevalkit_rows

        return read_vlmevalkit_rows(bench, out, asked=True)

    def scored_rows(
        self, cfg: RunConfig, bench: Benchmark, out: Outputs, rows: pd.DataFrame
    ) -> pd.DataFrame:
        """Return the rows: nothing is corrected."""
        return rows

    def excerpts(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> dict[Path, bytes]:
        """Return nothing: all notes beside a score follow from the table."""
        return {}

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files."""
        return read_vlmevalkit_scores(bench, out, rows)

    def annotate(
        self,
        cfg: RunConfig,
        bench: Benchmark,
        out: Outputs,
        rows: pd.DataFrame,
        score: BenchmarkScore,
        scorer_notes: Mapping[str, Any],
    ) -> BenchmarkScore:
        """Return ``score`` with notes on counted caveats of answers and scoring."""
        from .caveats import annotate

        return annotate(rows, score, scorer_notes)

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows."""
        from .sheets import tsv_rows

        data = bench.source(self.name).data
        assert isinstance(data, TsvData)
        return tsv_rows(cfg.dataset_dir / (data.tsv_local or data.tsv))

    def survey(self, folder: Path, keys: Iterable[str], judge: str = "") -> Survey | None:
        """Return what ``folder`` holds of VLMEvalKit, read by ``judge``; None if nothing."""
        from .survey import survey

        return survey(folder, keys, judge)

    def check_adopted(
        self, cfg: RunConfig, bench: Benchmark, folder: Path, method: str
    ) -> DatasetMatch:
        """Compare files with the dataset's table; refuse stale scores, and rules for a judge.

        Raises:
            EasiError: Also if the table is not in ``--dataset-dir``.
        """
        from .dataset_check import compare_with_table, dataset_items, refuse_rules, refuse_stale

        table, items = dataset_items(bench, cfg.dataset_dir)
        out = self.outputs(bench, folder)
        rows = self.rows(bench, out)
        refuse_repeated(rows)
        match = compare_with_table(bench, out, rows, table, items)
        refuse_stale(bench, rows)
        refuse_rules(bench, out, method)
        return match


def read_vlmevalkit_scores(
    bench: Benchmark, out: Outputs, rows: pd.DataFrame | None = None
) -> Reading:
    """Read the headline and the sub-scores, 0-100.

    With ``rows``, a missing number for questions that were scored is an error (see
    ``rows.reading``).
    """
    from ...scores.rows import reading
    from .result_files import aggregate

    source = bench.source(VLMEVALKIT)
    path = out.scores[0]
    return reading(source, aggregate(path, source.layout), rows, str(path))
