"""A run, step by step: plan, check, prepare, evaluate, collect, deliver.

``run`` is the entry point of the command line. Every reason to refuse the run is collected before
anything starts. ``--dry-run`` and ``--import-results`` share the steps that they need.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import __version__
from ..backends import make_backend, resolved
from ..backends.base import Backend
from ..cluster import slurm
from ..config import RunConfig
from ..core.errors import ExitCode, Refusals, Unreachable
from ..core.events import Emit, Notice, RunStarted
from ..core.formats import plural
from ..core.manifest import Manifest
from ..core.redact import Redactor
from ..core.run_lock import run_lock
from ..data.needs import HubSettings
from ..display import make_display
from ..display.run_log import RunLog
from ..engine.processes.gpu_use import gpu_use
from ..engine.processes.gpus import Machine, probe_machine
from ..engine.processes.interrupts import announced, interruptible, rearm, time_limit
from ..report.page import write_report
from ..report.subject import REPORT, Subject
from ..report.thumbnails import media_roots
from ..scores.report import Trouble
from ..scores.score_table import ScoreTable, State
from ..submission.admission import check_admission
from ..submission.deliver import RESULT_FILES, ResultFiles
from ..submission.metadata import Naming, check_metadata
from . import adopt, import_plan
from .collect import collect, complete_evidence, is_finished, submission_note
from .context import RunContext, make_context
from .dry_run import describe, planned_download, planned_jobs, serve_line, unresolved
from .find_run import FoundRun
from .plan import Plan
from .preflight import check, check_judge
from .prepare import prepare
from .resume import plan_run, set_aside, still_holds
from .run_progress import answers_kept
from .run_record import RunRecord
from .smoke import planned_hub, rehearse
from .smoke_hub import rehearsal
from .summary import show_summary


def run(asked: RunConfig, refusals: Refusals) -> int:
    """Carry out the options of a command line.

    Args:
        asked: The options as the user gave them.
        refusals: Collects the reasons that refuse the run, so that all are reported together.

    Returns:
        The exit code.

    Raises:
        EasiError: The run is refused, or cannot go on.
        KeyboardInterrupt: The user interrupted the run; finished results are on disk. Its text
            says what is kept.
    """
    if asked.import_results is not None:
        return import_results(asked)
    machine = probe_machine()
    cfg = rehearse(asked, machine.visible) if asked.smoke else asked
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    if cfg.dry_run:
        return show_plan(asked, cfg, backend, hub, machine, refusals)
    context = make_context(asked, cfg, backend, hub, resolved(cfg, backend, hub))
    plan, naming = check(context, plan_run(context), machine, refusals)
    with time_limit:
        try:
            with interruptible(), rehearsal(context) as context, run_lock(context.paths.lock):
                return carry_out(context, still_holds(plan, context), naming)
        except KeyboardInterrupt:
            job = slurm.own_job(os.environ)
            starts_over = asked.rerun or asked.plain
            if time_limit.leaves and job and not starts_over:
                print(f"the time limit is near: requeueing job {job}", flush=True)
                slurm.requeue(job, context.log)
            raise


# ---- a run ---------------------------------------------------------------------------------------


def carry_out(context: RunContext, plan: Plan, naming: Naming) -> int:
    """Evaluate what the plan says, and deliver the results.

    Returns:
        The exit code.

    Raises:
        EasiError: The run cannot go on, or the leaderboard did not accept the results.
        KeyboardInterrupt: The user interrupted the run; finished results are on disk. Its text
            says what is kept.
    """
    record, files = RunRecord.of(context, plan), result_files(context, naming)
    if plan.todo:
        from .evaluate import evaluate  # loads what only answering needs

        context, warning = check_judge(context)
        gpus = gpu_use(context.cfg.nproc) if context.model.needs_gpu else ()
        prepared = False
        try:
            with (
                make_display(context.cfg.no_rich, sys.stdout, gpus) as display,
                announced(display.stopping),
                RunLog(context.log, context.paths.events, display.on) as log,
            ):
                begin(context, plan, record, files, log.on)
                if warning:
                    log.on(Notice(warning, "warning"))
                plan, model = prepare(context, plan, record, log.on)
                prepared = True
                evaluate(context, plan, model, record, log.on)
        except KeyboardInterrupt:
            keep_complete(context, plan, record, files)
            raise KeyboardInterrupt(what_is_kept(context.cfg, plan, prepared)) from None
    complete_evidence(context, record.manifest)
    scores = collect(context, record.manifest)
    return deliver(context, plan, record, files, scores)


def begin(
    context: RunContext, plan: Plan, record: RunRecord, files: ResultFiles, emit: Emit
) -> None:
    """Set old results aside, write log file and manifest, and show what is about to run."""
    context.log.parent.mkdir(parents=True, exist_ok=True)
    context.log.touch()
    any_set_aside = set_aside(plan)
    record.note_launch(plan.before)
    cfg, model, manifest = context.cfg, context.model, record.manifest
    if any_set_aside:
        # However this run ends, the result files must not show results that were set aside.
        files.write(collect(context, manifest), manifest.revisions)
        for folder in (context.paths.root, cfg.output_dir):
            (folder / REPORT).unlink(missing_ok=True)
    never_sent = submission_note(cfg, collect(context, manifest)) if cfg.submit else ()
    kept = answers_kept(cfg, plan)
    there = "is there and is" if kept == 1 else "are there and are"
    emit(
        RunStarted(
            model.name,
            plan.backend,
            model.cls,
            tuple((bench.key, bench.title) for bench in cfg.selected),
            plan.skipped,
            context.paths.root,
            context.log,
            (
                f"{model.cls}: {model.why}",
                *plan.notes,
                *never_sent,
                *([f"{plural(kept, 'answer')} {there} not asked again"] if kept else []),
            ),
        )
    )


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
    report_and_show(context, plan, record, files, scores)
    finished = is_finished(context.cfg, scores)
    if context.cfg.submit:
        otherwise = ExitCode.NOT_SENT if finished else ExitCode.INCOMPLETE
        files.submit(scores, record.manifest.revisions, otherwise)
    return ExitCode.COMPLETE if finished else ExitCode.INCOMPLETE


def report_and_show(
    context: RunContext, plan: Plan, record: RunRecord, files: ResultFiles, scores: ScoreTable
) -> None:
    """Write the report, which is no reason to fail, and print the summary."""
    paths, cfg = context.paths, context.cfg
    media = media_roots(cfg.dataset_dir, context.hub.hf_home, context.hub.hub_cache)
    problem = write_report(
        Subject(
            scores, record.manifest, paths, cfg.output_dir, context.backend, cfg.smoke, media=media
        )
    )
    names = RESULT_FILES if problem else (*RESULT_FILES, REPORT)
    notes = [*files.notes(), *filter(None, [problem])]
    show_summary(context, plan, record, scores, names, notes)


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
            f"Stopped; writing the results ({len(complete)} of "
            f"{len(context.cfg.selected)} benchmarks complete)",
            flush=True,
        )
    files.write(scores, record.manifest.revisions)
    with suppress(OSError):
        report_and_show(context, plan, record, files, scores)


def what_is_kept(cfg: RunConfig, plan: Plan, prepared: bool) -> str:
    """Say after an interrupt what the next launch need not do again."""
    if count := answers_kept(cfg, plan):
        return f"Interrupted; {plural(count, 'answer')} kept"
    if not prepared:
        return "Interrupted while preparing; what was downloaded is kept"
    if cfg.plain:
        return "Interrupted; complete benchmarks are kept"
    return "Interrupted before the first answer; the data are kept"


# ---- --dry-run -----------------------------------------------------------------------------------


def show_plan(
    asked: RunConfig,
    cfg: RunConfig,
    backend: Backend,
    hub: HubSettings,
    machine: Machine,
    refusals: Refusals,
) -> int:
    """Print the plan of ``--dry-run`` with all reasons to refuse the run; start nothing."""
    plan = unresolved(cfg)
    with refusals.noted():
        context = make_context(asked, cfg, backend, hub, resolved(cfg, backend, hub))
        plan, naming = check(context, plan_run(context), machine, refusals)
        serve = serve_line(cfg, context.model, machine.visible)
        plan = replace(plan, check_notes=(*plan.check_notes, *filter(None, [serve])))
        if cfg.smoke:
            context = replace(context, backend=make_backend(cfg.backend, planned_hub(cfg)))
        plan = replace(plan, jobs=planned_jobs(context, plan))
    if not cfg.smoke and plan.todo:
        # A hub that did not answer is not asked again, and its problem is reported once.
        silent = any(isinstance(refusal, Unreachable) for refusal in refusals.found)
        asked_hub = replace(hub, offline=hub.offline or silent)
        with refusals.noted():
            download = planned_download(cfg, backend, plan, asked_hub)
            problems = () if silent else download.problems
            plan = replace(plan, download=replace(download, problems=problems))
    request = ""
    if cfg.submit and plan.identity:
        with refusals.noted():
            request = request_text(context, plan, RunRecord.of(context, plan).manifest, naming)
    plan = replace(plan, blocked=tuple(refusals.found))
    print(Redactor.from_environ().line(describe(cfg, plan, request)))
    return ExitCode.REFUSED if refusals.found else ExitCode.COMPLETE


def request_text(context: RunContext, plan: Plan, manifest: Manifest, naming: Naming) -> str:
    """Describe what ``--submit`` would send, for ``--dry-run``."""
    request = result_files(context, naming).describe_request(
        collect(context, manifest), manifest.revisions, [bench.key for bench in plan.benchmarks]
    )
    return f"\n# submission\n{request}"


# ---- --import-results ----------------------------------------------------------------------------


def import_results(asked: RunConfig) -> int:
    """Adopt results that another program made.

    Table, payload, archive and submission are then the same as after a run of this program.
    """
    adoption = import_plan.consider(asked)
    cfg = replace(asked, backend=adoption.plan.backend, benchmarks=adoption.keys)
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    naming = check_metadata(cfg, adoption.plan.model, adoption.plan.paths, hub)
    check_admission(cfg, hub)
    if cfg.dry_run:
        with TemporaryDirectory(prefix="easi-import-") as folder:
            trial = import_plan.elsewhere(adoption, Path(folder))
            decisions, manifest = adopt.adopt(cfg, backend, trial, __version__)
            print(Redactor.from_environ().line(adopt.describe(adoption, decisions)))
            if cfg.submit:
                context = _adopted_context(asked, cfg, backend, hub, trial.plan)
                print(request_text(context, trial.plan, manifest, naming))
        return ExitCode.COMPLETE
    with interruptible(), run_lock(adoption.plan.paths.lock):
        decisions, manifest = adopt.adopt(cfg, backend, adoption, __version__)
        context = _adopted_context(asked, cfg, backend, hub, adoption.plan)
        troubles = [
            Trouble(each.candidate.key, f"not imported: {each.reason}")
            for each in decisions
            if each.evidence is None
        ]
        record = RunRecord(context, manifest, troubles)
        files, scores = result_files(context, naming), collect(context, manifest)
        return deliver(context, adoption.plan, record, files, scores)


def _adopted_context(
    asked: RunConfig, cfg: RunConfig, backend: Backend, hub: HubSettings, plan: Plan
) -> RunContext:
    run = FoundRun(plan.identity, plan.fields, plan.paths, plan.fields)
    return make_context(asked, cfg, backend, hub, plan.model, run)
