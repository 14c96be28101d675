"""The end of a run: result files, summary and submission."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace

from ..core.errors import ExitCode
from ..core.manifest import Manifest
from ..core.redact import Redactor
from ..engine.processes.interrupts import rearm
from ..scores import report
from ..scores.scores import ScoreTable, State
from ..submission.deliver import RESULT_FILES, ResultFiles
from ..submission.metadata import Naming
from .collect import collect, is_finished
from .context import RunContext
from .plan import Plan
from .run_record import RunRecord


def result_files(context: RunContext, naming: Naming) -> ResultFiles:
    """Return the result files of a run; nothing is written yet."""
    cfg, hub, model = context.cfg, context.hub, context.model
    return ResultFiles(context.asked, cfg, context.backend, hub, model, context.paths, naming)


def deliver(
    context: RunContext, plan: Plan, record: RunRecord, files: ResultFiles, scores: ScoreTable
) -> ExitCode:
    """Write the result files, print the summary, and submit if asked.

    All result files are on disk before the summary is printed.

    Raises:
        EasiError: The leaderboard did not accept the results.
    """
    files.write(scores, record.manifest.revisions)
    show_summary(context, plan, record, files, scores)
    finished = is_finished(context.cfg, scores)
    if context.cfg.submit:
        otherwise = ExitCode.NOT_SENT if finished else ExitCode.INCOMPLETE
        files.submit(scores, record.manifest.revisions, otherwise)
    return ExitCode.COMPLETE if finished else ExitCode.INCOMPLETE


def keep_complete(context: RunContext, plan: Plan, record: RunRecord, files: ResultFiles) -> None:
    """Write table, payload and archive after an interrupt.

    A second interrupt stops the writing. Each file is then either complete or the previous version,
    because files are replaced in one step.
    """
    if not context.paths.manifest.exists():
        return
    rearm()
    scores = collect(context, record.manifest)
    complete = [row.key for row in scores.rows if row.state is State.COMPLETE]
    with suppress(OSError):  # after a hangup the terminal is gone
        print(
            f"interrupted; writing table and payload ({len(complete)} of "
            f"{len(context.cfg.selected)} benchmarks complete)",
            flush=True,
        )
    files.write(scores, record.manifest.revisions)
    with suppress(OSError):
        show_summary(context, plan, record, files, scores)


def show_summary(
    context: RunContext, plan: Plan, record: RunRecord, files: ResultFiles, scores: ScoreTable
) -> None:
    """Print scores, problems, how to try again, and where the files are."""
    cfg = context.cfg
    failed = tuple(trouble.key for trouble in record.troubles)
    again = replace(context.asked, benchmarks=failed, include_extra=False, rerun=False)
    lines = report.summary(
        scores,
        record.troubles,
        width=min(shutil.get_terminal_size((80, 24)).columns, 140),
        # Importing the same files again would give the same result, so no retry is offered.
        retry=again.command_words() if failed and not cfg.import_results else (),
        files=[
            *(cfg.output_dir / name for name in RESULT_FILES),
            *([context.log] if plan.todo else []),
        ],
        notes=[*(f"skipped {key}: {reason}" for key, reason in plan.skipped), *files.notes()],
    )
    print("\n".join(map(Redactor.from_environ().line, lines)))


def print_request(context: RunContext, plan: Plan, manifest: Manifest, naming: Naming) -> None:
    """Print what ``--submit`` would send, for ``--dry-run``."""
    request = result_files(context, naming).describe_request(
        collect(context, manifest), manifest.revisions, [bench.key for bench in plan.benchmarks]
    )
    print(f"\n# submission\n{request}")
