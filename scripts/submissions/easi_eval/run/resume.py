"""Plan a run by what earlier starts of it left on disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..backends.evidence import Evidence
from ..benchmarks import Source
from ..core.libraries import decisive, mixed
from ..core.manifest import Manifest, other_runs
from ..data.needs import Kind, Need
from ..scores import judging
from ..scores.data_check import content_note
from .context import RunContext
from .data_changes import table_state
from .decide import make_plan
from .plan import FoundResult, Plan


def plan_run(context: RunContext) -> Plan:
    """Return the plan: which benchmarks are to be evaluated, given the results on disk."""
    cfg, paths, manifest = context.cfg, context.paths, Manifest.load(context.paths.manifest)
    settings = {
        bench.key: {**context.backend.settings(cfg, bench), **_data_of(manifest, bench.key)}
        for bench in cfg.selected
    }
    found = {
        bench.key: result
        for bench in cfg.selected
        if (result := _found(paths.output(bench.key), context.policy)) is not None
    }
    for bench in () if cfg.smoke or cfg.plain else cfg.selected:
        if bench.key in found and _table_changed(
            bench.source(context.backend.name),
            context.backend.needs(cfg, bench),
            manifest,
            bench.key,
        ):
            found[bench.key] = FoundResult(problem="its table was changed since it was scored")
    changed = _changed_since(manifest, context.libraries) if manifest else ()
    return make_plan(
        cfg,
        context.model,
        context.backend.version(cfg),
        settings,
        manifest,
        found,
        other_runs(paths, context.model.name),
        (*judging.plan_lines(context.policy), *changed),
        context.run,
    )


def still_holds(plan: Plan, context: RunContext) -> Plan:
    """Return the plan, made again if it is no longer that of this folder.

    Another run may have worked in the folder until it was locked, and a rehearsal has the folder of
    the weights that it fetched.
    """
    if plan.paths == context.paths and plan.before == Manifest.load(context.paths.manifest):
        return plan
    return replace(plan_run(context), check_notes=plan.check_notes)


def set_aside(plan: Plan) -> bool:
    """Move away the output folders of older results; return whether there were any."""
    moved = [todo for todo in plan.todo if todo.aside]
    for todo in moved:
        aside = plan.paths.aside(todo.bench.key, todo.epoch)
        shutil.rmtree(aside, ignore_errors=True)
        plan.paths.output(todo.bench.key).rename(aside)
    return bool(moved)


def _data_of(manifest: Manifest | None, key: str) -> dict[str, object]:
    """Return the recorded digests of a benchmark's data.

    Whether the data are still the same is checked later, by ``data_changes.begin``.
    """
    state = manifest.benchmarks.get(key) if manifest else None
    return {"data": state.settings["data"]} if state and "data" in state.settings else {}


def _table_changed(
    source: Source, needs: Sequence[Need], manifest: Manifest | None, key: str
) -> bool:
    """Return whether the benchmark's table has another size or time than when it was recorded.

    A table that is gone counts as changed only if it was not the benchmark's expected content: its
    user deleted it to get the present one. What the change means is decided by
    ``data_changes.begin``.
    """
    state = manifest.benchmarks.get(key) if manifest else None
    before = state.evidence.get("table") if state else None
    now = next((table_state(need.target) for need in needs if need.kind is Kind.FILE), [])
    if before and not now and state:
        recorded = state.settings.get("data")
        return isinstance(recorded, Mapping) and bool(content_note(source, recorded))
    return bool(before and now and before != now)


def _changed_since(manifest: Manifest, libraries: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note if library versions differ from those of the manifest; the answers are kept.

    Only differences that belong to the same run identity get here, such as patch versions.
    """
    differing = mixed([decisive(manifest.versions), decisive(libraries)])
    return (
        (
            f"versions changed since the last start of this run ({'; '.join(differing)}); its "
            "answers are kept",
        )
        if differing
        else ()
    )


def _found(folder: Path, policy: judging.Policy) -> FoundResult | None:
    evidence = Evidence.load(folder)
    if evidence is None:
        return (
            FoundResult(problem="its files changed since they were scored")
            if folder.exists()
            else None
        )
    return FoundResult(
        evidence.fingerprint,
        evidence.score.n,
        evidence.score.total,
        limit=evidence.limit,
        judging=judging.why_rejudge(policy, evidence.score),
        judgeable=bool(policy.judge),
        method=evidence.score.method,
    )
