"""Runs of made-up backends, without a command line and without a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from easi_eval.backends.base import Backend
from easi_eval.config import RunConfig
from easi_eval.core.events import Emit
from easi_eval.core.model import ModelChoice
from easi_eval.core.run_folder import RunPaths
from easi_eval.data.needs import HubSettings
from easi_eval.run.accept import Verdict
from easi_eval.run.context import RunContext, make_context
from easi_eval.run.evaluate import Evaluation
from easi_eval.run.find_run import FoundRun
from easi_eval.run.plan import Plan, Todo
from easi_eval.run.resume import plan_run
from easi_eval.scores.judging import Policy

MODEL = ModelChoice("m", "m", "M", "")


def context_of(
    cfg: RunConfig, backend: Backend, log: Path, policy: Policy | None = None
) -> RunContext:
    """The context of a run of a made-up model; no judge is asked by default."""
    paths = RunPaths.of(cfg.output_dir, backend.name, MODEL.name, "i" * 64)
    run = FoundRun("i" * 64, {}, paths, {})
    judged = policy or Policy(reads=False)
    return RunContext(cfg, cfg, backend, HubSettings(), MODEL, run, {}, judged, log)


def plan_of(cfg: RunConfig, backend: Backend) -> Plan:
    """The plan of a run, as the program makes it, by what is on disk."""
    return plan_run(make_context(cfg, cfg, backend, HubSettings(), backend.resolve(cfg)))


class Forgetful:
    """Keeps nothing of what an evaluation reports."""

    made_before: dict[str, str] = {}  # noqa: RUF012 -- nobody changes it
    revisions: dict[str, str] = {}  # noqa: RUF012 -- as above

    def note_machines(self, machines: Any) -> None: ...
    def note_command(self, command: str) -> None: ...
    def note_workers(self, made_with: Any) -> None: ...
    def note_score(self, score: Any, line: str = "") -> None: ...
    def note_failure(self, key: str, reason: str, line: str = "") -> None: ...


def evaluated(cfg: RunConfig, backend: Backend, log: Path, emit: Emit) -> dict[str, Verdict]:
    """Evaluate the benchmarks of ``cfg``; its output folder holds the run."""
    context = context_of(cfg, backend, log)
    todo = tuple(Todo(bench, 0, "f", {}, "") for bench in cfg.selected)
    plan = Plan(MODEL, backend.name, "i" * 64, {}, context.paths, todo, ())
    return Evaluation(context, plan, MODEL, Forgetful(), emit).run()
