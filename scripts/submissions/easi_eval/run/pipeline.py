"""A run, step by step: plan, check, prepare, evaluate, collect, deliver.

``run`` is the entry point of the command line. Every reason to refuse the run is collected before
anything starts. ``--dry-run`` and ``--import-results`` share the steps that they need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import __version__
from ..backends import make_backend, resolved
from ..backends.base import Backend
from ..config import RunConfig
from ..core.errors import ExitCode, Refusals, Unreachable
from ..core.events import Emit, Notice, RunStarted
from ..core.redact import Redactor
from ..core.run_folder import run_lock
from ..data.needs import HubSettings
from ..display import make_display
from ..engine.processes.gpus import Machine, probe_machine
from ..engine.processes.interrupts import interruptible
from ..scores.judging import judge_is_required
from ..scores.report import Trouble
from ..submission.admission import check_admission
from ..submission.deliver import ResultFiles
from ..submission.metadata import Naming, check_metadata
from .collect import collect, submission_note
from .context import RunContext, make_context
from .dry_run import describe, planned_download, planned_jobs, unresolved
from .evaluate import evaluate
from .find_run import FoundRun
from .finish import deliver, keep_complete, print_request, result_files
from .plan import Plan
from .preflight import check
from .prepare import prepare
from .rehearsal import planned_hub, rehearsal_hub, rehearse
from .resume import plan_run, set_aside, still_holds
from .run_record import RunRecord


def run(asked: RunConfig, refusals: Refusals) -> int:
    """Carry out the options of a command line.

    Args:
        asked: The options as the user gave them.
        refusals: Collects the reasons that refuse the run, so that all are reported together.

    Returns:
        The exit code.

    Raises:
        EasiError: The run is refused, or cannot go on.
        KeyboardInterrupt: The user interrupted the run; finished results are on disk.
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
    with interruptible(), rehearsal(context) as context, run_lock(context.paths.lock):
        return carry_out(context, still_holds(plan, context), naming)


@contextmanager
def rehearsal(context: RunContext) -> Iterator[RunContext]:
    """Serve the data of a rehearsal, and yield the context that uses them.

    A model named by the user comes from the real hub. Other runs keep their context.
    """
    if not context.cfg.smoke:
        yield context
        return
    from ..data.fetch import fetch  # loads the hub's client, which is slow

    model = context.model
    if context.asked.model:
        for found in fetch(context.backend.weights(model), _print_notice, context.hub):
            model = context.backend.localise(model, found.need.repo, found.path)
    with rehearsal_hub(context.cfg) as hub:
        backend = make_backend(context.cfg.backend, hub)
        yield make_context(context.asked, context.cfg, backend, hub, model)


def _print_notice(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text)


# ---- a run ---------------------------------------------------------------------------------------


def carry_out(context: RunContext, plan: Plan, naming: Naming) -> int:
    """Evaluate what the plan says, and deliver the results.

    Returns:
        The exit code.

    Raises:
        EasiError: The run cannot go on, or the leaderboard did not accept the results.
        KeyboardInterrupt: The user interrupted the run; finished results are on disk.
    """
    record, files = RunRecord.of(context, plan), result_files(context, naming)
    if plan.todo:
        context, warning = check_judge(context)
        try:
            with make_display(context.cfg.no_rich, sys.stdout) as display:
                begin(context, plan, record, files, display.on)
                if warning:
                    display.on(Notice(warning, "warning"))
                plan, model = prepare(context, plan, record, display.on)
                evaluate(context, plan, model, record, display.on)
        except KeyboardInterrupt:
            keep_complete(context, plan, record, files)
            raise
    scores = collect(context, record.manifest)
    return deliver(context, plan, record, files, scores)


def check_judge(context: RunContext) -> tuple[RunContext, str]:
    """Send the judge a test request, if one may be needed, before anything is started.

    Returns:
        The context, and a warning if the judge cannot be used, so that the answers are read by
        rules.

    Raises:
        EasiError: A judge that was configured on purpose cannot be used.
    """
    policy = context.policy
    error = context.backend.probe_judge(context.cfg, policy.judge) if policy.judge else None
    if error is None:
        return context, ""
    if judge_is_required(context.cfg, os.environ):
        raise error
    policy = replace(policy, judge="", why_none=error.message)
    return replace(context, policy=policy), f"{error.message}: all benchmarks are read by rules"


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
    never_sent = submission_note(cfg, collect(context, manifest)) if cfg.submit else ()
    emit(
        RunStarted(
            model.name,
            plan.backend,
            model.cls,
            tuple((bench.key, bench.title) for bench in cfg.selected),
            plan.skipped,
            context.paths.root,
            context.log,
            (f"{model.cls}: {model.why}", *plan.notes, *never_sent),
        )
    )


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
    plan = replace(plan, blocked=tuple(refusals.found))
    print(Redactor.from_environ().line(describe(plan, cfg.verbose)))
    if cfg.submit and plan.identity:
        with refusals.noted():
            print_request(context, plan, RunRecord.of(context, plan).manifest, naming)
    return ExitCode.REFUSED if refusals.found else ExitCode.COMPLETE


# ---- --import-results ----------------------------------------------------------------------------


def import_results(asked: RunConfig) -> int:
    """Adopt results that another program made.

    Table, payload, archive and submission are then the same as after a run of this program.
    """
    # Loads pandas, which is slow; a refused command line should not wait for it.
    from . import adopt

    adoption = adopt.consider(asked)
    cfg = replace(asked, backend=adoption.plan.backend, benchmarks=adoption.keys)
    hub = HubSettings.from_env()
    backend = make_backend(cfg.backend, hub)
    naming = check_metadata(cfg, adoption.plan.model, adoption.plan.paths, hub)
    check_admission(cfg, hub)

    def context_of(plan: Plan) -> RunContext:
        run = FoundRun(plan.identity, plan.fields, plan.paths, plan.fields)
        return make_context(asked, cfg, backend, hub, plan.model, run)

    if cfg.dry_run:
        with TemporaryDirectory(prefix="easi-import-") as folder:
            trial = adopt.elsewhere(adoption, Path(folder))
            decisions, manifest = adopt.adopt(cfg, backend, trial, __version__)
            print(Redactor.from_environ().line(adopt.describe(adoption, decisions)))
            if cfg.submit:
                print_request(context_of(trial.plan), trial.plan, manifest, naming)
        return ExitCode.COMPLETE
    with interruptible(), run_lock(adoption.plan.paths.lock):
        decisions, manifest = adopt.adopt(cfg, backend, adoption, __version__)
        context = context_of(adoption.plan)
        troubles = [
            Trouble(each.candidate.key, f"not adopted: {each.reason}")
            for each in decisions
            if each.evidence is None
        ]
        record = RunRecord(context, manifest, troubles)
        files, scores = result_files(context, naming), collect(context, manifest)
        return deliver(context, adoption.plan, record, files, scores)
