"""What is shown at the end of a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from ..core.redact import Redactor
from ..scores import report
from ..scores.score_table import ScoreTable, State
from .context import RunContext
from .plan import Plan
from .run_record import RunRecord


def show_summary(
    context: RunContext,
    plan: Plan,
    record: RunRecord,
    scores: ScoreTable,
    files: Sequence[str],
    notes: Sequence[str],
) -> None:
    """Print scores, problems and how to try again, the files by name, and notes on them."""
    cfg = context.cfg
    failed = tuple(trouble.key for trouble in record.troubles)
    retry, purpose = None, ""
    # Importing the same files again would give the same result, so no retry is offered.
    if failed and not cfg.import_results:
        retry = replace(context.asked, benchmarks=failed, include_extra=False, rerun=False)
        purpose = "To complete the run:"
    elif any(row.state is State.PARTIAL for row in scores.rows):
        retry = replace(context.asked, limit=None, rerun=False)
        purpose = "To ask the other questions too:"
    skipped = [f"{key}: {reason}" for key, reason in plan.skipped]
    lines = report.summary(
        scores,
        record.troubles,
        width=min(shutil.get_terminal_size((80, 24)).columns, 140),
        retry=retry.command_words() if retry else (),
        purpose=purpose,
        files=[*(cfg.output_dir / name for name in files), *([context.log] if plan.todo else [])],
        notes=[*([f"skipped {'; '.join(skipped)}"] if skipped else []), *notes],
        place=record.place,
    )
    print("\n".join(map(Redactor.from_environ().line, lines)))
