"""What ``--dry-run`` shows: the plan in words, its commands and its downloads."""

from __future__ import annotations

import shlex

from ..backends.base import Backend
from ..backends.shared import model_paths
from ..benchmarks import Benchmark
from ..config import RunConfig
from ..core.formats import duration
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.download_forecast import forecast
from ..data.needs import Download, HubSettings
from ..engine.processes import launchers
from ..engine.processes.jobs import Job
from .context import RunContext
from .plan import Plan, Todo
from .run_progress import count_planned, forecast_seconds, has_unanswered


def unresolved(cfg: RunConfig) -> Plan:
    """Return a plan for a run whose model cannot be determined.

    ``--dry-run`` shows it together with the errors.
    """
    todo = tuple(Todo(bench, 0, "", {}, "state unknown") for bench in cfg.selected)
    model = ModelChoice(
        f"{cfg.model}: it could not be checked, for the reason below", cfg.model, "", ""
    )
    return Plan(
        model, cfg.backend, "", {}, RunPaths(cfg.output_dir), todo, (), option_notes=cfg.ignored
    )


def describe(cfg: RunConfig, plan: Plan, request: str = "") -> str:
    """Describe the plan for users, as ``--dry-run`` prints it.

    With ``--verbose`` it includes the commands, each on a line of its own, ready to paste. What
    blocks the run comes last, because the request of a submission, ``request``, fills the screen.
    """
    arguments = ", ".join(f"{name}={value!r}" for name, value in plan.model.arguments.items())
    lines = [
        f"model    {plan.model.name}"
        + (f" (revision {plan.model.revision})" if plan.model.revision else "")
    ]
    if plan.identity:
        lines += [
            f"weights  {plan.model.path}",
            f"class    {plan.model.cls}({arguments}): {plan.model.why}",
            f"backend  {plan.backend} {plan.fields['backend version']}, "
            f"device {plan.fields.get('--device', 'of the server')}",
            f"folder   {plan.paths.root}",
        ]
    lines += [f"note     {note}" for note in plan.notes]
    lines += [f"skip     {key}: {reason}" for key, reason in plan.skipped]
    sizes = plan.download.lines if plan.download else {}
    lines += [
        f"run      {todo.bench.key}: "
        f"""{
            "; ".join(
                filter(
                    None,
                    [
                        _questions(cfg, todo.bench),
                        sizes.get(todo.bench.key, ""),
                        todo.reason,
                    ],
                )
            )
        }"""
        for todo in plan.todo
    ]
    lines += _in_all(cfg, plan)
    if plan.download:
        lines += [f"data     {name}: {said}" for name, said in sizes.items() if name == "model"]
        lines += [
            f"data     in all: {plan.download.total}",
            *(f"data     {problem}" for problem in plan.download.problems),
        ]
    if cfg.verbose:
        lines += [f"\n# {job.name}\n{job}" for job in plan.jobs]
    lines += [request] if request else []
    for refusal in plan.blocked:
        lines += [
            f"blocked  {refusal.message}",
            *([f"         {refusal.hint}"] if refusal.hint else []),
        ]
    return "\n".join(lines)


def _questions(cfg: RunConfig, bench: Benchmark) -> str:
    count = bench.source(cfg.backend).questions
    if cfg.smoke:
        return "made-up questions"
    return f"{count:,} questions" if count else ""


def _in_all(cfg: RunConfig, plan: Plan) -> list[str]:
    """Return the lines on all questions of the run and on the time that they may take."""
    if cfg.smoke or not plan.todo:
        return []
    counts = [count_planned(cfg, bench) for bench in plan.benchmarks]
    bound = "at least " if not all(counts) else "at most " if cfg.limit else ""
    lines = [f"total    {bound}{sum(count or 0 for count in counts):,} questions"]
    if plan.identity and has_unanswered(cfg, plan):
        seconds = forecast_seconds(cfg, plan)
        first_look = "" if cfg.limit else ": run with --limit 20, then look at this plan again"
        lines.append(
            f"time     about {duration(seconds)} for what is left, by the answers that are there"
            if seconds
            else f"time     not known yet{first_look}"
        )
    return lines


def serve_line(cfg: RunConfig, model: ModelChoice, gpus: int) -> str:
    """Return how vLLM would serve a model that runs here on GPUs; "" for other models.

    Args:
        cfg: The run's options; each process has its share of the GPUs.
        model: The model.
        gpus: Number of GPUs.
    """
    if model.served or not model.needs_gpu or model.base or not gpus:
        return ""
    hub = model_paths.is_hub_id(model.path)
    options = {
        "--served-model-name": "" if hub else model.name,
        "--revision": model.revision if hub else "",
        "--tensor-parallel-size": str(max(1, gpus // cfg.nproc)),
        "--data-parallel-size": str(cfg.nproc) if cfg.nproc > 1 else "",
        "--limit-mm-per-prompt": '{"image": 64}',
    }
    words = ["vllm", "serve", model.path]
    words += [word for name, value in options.items() if value for word in (name, value)]
    words += ["--trust-remote-code"] if cfg.trust_remote_code else []
    return (
        f"served by vLLM, if it has this model, and asked with --base-url: {shlex.join(words)} "
        "(scripts/docs/engines.md)"
    )


def planned_jobs(context: RunContext, plan: Plan) -> tuple[Job, ...]:
    """Return the commands that the plan would run; a judge only if it judges every benchmark."""
    if not plan.todo:
        return ()
    cfg, backend, paths, policy = context.cfg, context.backend, plan.paths, context.policy
    port = launchers.free_port()
    if cfg.plain:
        return tuple(
            backend.plain_job(cfg, plan.model, bench, paths.plain(bench.key), port)
            for bench in plan.benchmarks
        )
    judge = (
        [backend.score_job(cfg, plan.model, plan.benchmarks, paths, policy.judge)]
        if policy.always
        else []
    )
    return (
        backend.answer_job(cfg, plan.model, plan.benchmarks, paths, port),
        backend.score_job(cfg, plan.model, plan.benchmarks, paths),
        *judge,
    )


def planned_download(cfg: RunConfig, backend: Backend, plan: Plan, hub: HubSettings) -> Download:
    """Return what data and weights the plan would download; asks the hub for the sizes."""
    from ..data.sizes import size_of  # loads the hub's client, which is slow

    wanted = {bench.key: backend.needs(cfg, bench) for bench in plan.benchmarks}
    asking = plan.identity and has_unanswered(cfg, plan)
    if asking and (weights := backend.weights(plan.model)):
        wanted["model"] = weights
    sizes = {
        size.need: size
        for size in size_of([need for each in wanted.values() for need in each], hub)
    }
    return forecast({name: [sizes[need] for need in each] for name, each in wanted.items()})
