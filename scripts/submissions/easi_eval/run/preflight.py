"""Check model, machine, submission and judge before anything is started."""

from __future__ import annotations

import os
from dataclasses import replace

from ..backends.shared import damaged, newer_checkpoints
from ..cluster import slurm
from ..core.errors import Refusals
from ..core.libraries import lock_note
from ..core.locks import unlocked
from ..core.places import REPOSITORY
from ..engine.processes.gpus import Machine, read_torch_build
from ..scores.judging import judge_is_required
from ..submission.admission import check_admission
from ..submission.archive.size_forecast import forecast
from ..submission.endpoint import LIMIT
from ..submission.metadata import Naming, check_metadata
from ..submission.metadata_hints import metadata_suggestions
from .context import RunContext
from .device_checks import check_device
from .nodes_of_run import placed
from .plan import Plan
from .run_progress import has_unanswered
from .smoke import left_out


def check(
    context: RunContext, plan: Plan, machine: Machine, refusals: Refusals
) -> tuple[Plan, Naming]:
    """Check what can be known before a run; reasons to refuse it go to ``refusals``.

    Returns:
        The plan with the notes of the checks, and which model the submission's metadata name.
    """
    cfg, model, hub = context.cfg, context.model, context.hub
    # A run whose questions are all answered needs no model: it can be scored and sent from a
    # machine without GPUs.
    answering = has_unanswered(cfg, plan)
    notes = _check_model(context, machine, refusals) if answering else []
    naming = Naming()
    with refusals.noted():
        naming = check_metadata(cfg, model, context.paths, hub)
    with refusals.noted():
        notes += check_admission(cfg, hub)
    if answering and not cfg.smoke and cfg.limit is None:
        size = forecast(cfg.backend, [bench.key for bench in cfg.selected], LIMIT)
        notes += [size] if size else []
    if cfg.smoke and (line := left_out(context.asked)):
        notes.append(line)
    caches = {} if cfg.smoke else {"HF_HOME": hub.hf_home, "the hub's cache": hub.hub_cache}
    notes += unlocked({"--output-dir": cfg.output_dir, **caches})
    notes += lock_note(REPOSITORY, context.libraries, model.profile)
    if cfg.submission:
        suggested = metadata_suggestions(cfg, model, context.paths, hub)
        notes += [f"submission: {each}" for each in suggested]
    return replace(plan, check_notes=tuple(notes)), naming


def _check_model(context: RunContext, machine: Machine, refusals: Refusals) -> list[str]:
    """Check that this machine can run the model, and return notes for the user."""
    cfg, model, notes = context.cfg, context.model, list[str]()
    with refusals.noted():
        context.backend.ready(cfg, model)
    with refusals.noted():
        damaged.check(model)
    if cfg.slurm:
        with refusals.noted():
            notes += slurm.check(cfg, model.needs_gpu)
    if not placed(cfg):  # else each node looks at its own GPUs
        with refusals.noted():
            notes += check_device(cfg, model.needs_gpu, machine, read_torch_build())
    with refusals.noted():
        revisions = {need.repo: need.revision for need in context.backend.weights(model)}
        notes += newer_checkpoints.notes(cfg, model, revisions, context.hub)
    return notes


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
    return replace(context, policy=policy), f"{error.message}: all benchmarks are scored by rules"
