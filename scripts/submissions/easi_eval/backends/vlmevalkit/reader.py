"""Read what VLMEvalKit wrote, and what is reported beside its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...benchmarks import Benchmark, TsvData
from ...config import RunConfig
from ...core.errors import EasiError
from ...core.run_folder import sanitise
from ...data.needs import HubSettings
from ...scores import judging
from ...scores.outputs import Outputs
from . import FACTS

if TYPE_CHECKING:
    import pandas as pd

    from ...scores.scores import BenchmarkScore, Reading


class VLMEvalKitReader:
    """Reads the files of VLMEvalKit. Its methods load pandas when they are called."""

    name = FACTS.name
    payload_name = "vlmevalkit"

    def __init__(self, hub: HubSettings) -> None:
        self.hub = hub

    def outputs(self, bench: Benchmark, folder: Path, judge: str = "") -> Outputs:
        """Find the files of one benchmark in ``folder``, those made with ``judge``.

        Raises:
            EasiError: If a file is missing, or VLMEvalKit read answers by rules although a model
                was to judge.
        """
        from .result_files import find_vlmevalkit_outputs, read_by_rules

        found = find_vlmevalkit_outputs(bench, folder, sanitise(judge) if judge else "")
        if judge not in ("", *judging.BY_RULES) and (count := read_by_rules(bench, found)):
            raise EasiError(
                f"VLMEvalKit read {count} answers of {bench.title} by rules instead of asking "
                f"{judge}",
                hint="the log says why",
            )
        return found

    def rows(self, bench: Benchmark, out: Outputs) -> pd.DataFrame:
        """Return one row per question, with the columns of ``scores.row_table.ROW_COLUMNS``."""
        from .result_files import read_vlmevalkit_rows

        return read_vlmevalkit_rows(bench, out)

    def read(self, bench: Benchmark, out: Outputs, rows: pd.DataFrame) -> Reading:
        """Return headline score and sub-scores (0-100) from the aggregate files."""
        from .result_files import read_vlmevalkit_scores

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
        """Return ``score`` with notes on counted oddities of answers and scoring."""
        from .caveats import right_without_letter, standing_still

        changed = len(scorer_notes.get("lossy") or ())
        lossy = (
            f"{changed} of {len(rows)} answers are scored as they were given; VLMEvalKit's own "
            "xlsx would have changed them (empty, None, cut off ...)"
        )
        return replace(
            score,
            notes=(
                *score.notes,
                *filter(
                    None,
                    [lossy if changed else "", right_without_letter(rows), standing_still(rows)],
                ),
            ),
        )

    def total(self, cfg: RunConfig, bench: Benchmark, out: Outputs) -> int:
        """Return the dataset's number of rows."""
        from .result_files import tsv_rows

        data = bench.source(self.name).data
        assert isinstance(data, TsvData)
        return tsv_rows(cfg.dataset_dir / (data.tsv_local or data.tsv))
