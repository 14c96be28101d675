"""Decide what will be run and what is skipped, and why.

Pure: everything it needs is passed in, so a plan can be printed and tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..benchmarks import GROUPS, Benchmark, Group, by_key
from ..config import RunConfig
from ..core.manifest import BenchmarkState, Manifest
from ..core.model import ModelChoice
from .find_run import FoundRun, known_fields, new_run
from .identity import differing_fields, fingerprint, known_differences
from .plan import FoundResult, Plan, Todo

# Settings that change the scoring but not the answers: the journal's answers stay valid.
SCORING_ONLY = frozenset(
    {"judge", "judge model", "extraction threshold", "corrections", "data truth", "data md5"}
)


def make_plan(
    cfg: RunConfig,
    model: ModelChoice,
    backend_version: str,
    settings: Mapping[str, Mapping[str, object]],
    manifest: Manifest | None,
    found: Mapping[str, FoundResult],
    others: Sequence[Manifest] = (),
    notes: Sequence[str] = (),
    run: FoundRun | None = None,
) -> Plan:
    """Decide about every selected benchmark.

    Args:
        cfg: The run.
        model: The model to evaluate.
        backend_version: Version of the backend.
        settings: ``Backend.settings`` of each benchmark, by key.
        manifest: Manifest of this identity, if there is one.
        found: What lies in the output folders; benchmarks without files are absent.
        others: Manifests of the same model under other identities.
        notes: Messages to show besides those of the plan.
        run: The run, if it is not the one that the present rule gives.
    """
    run = run or new_run(cfg, backend_version, model, {})
    name = run.identity
    todo, skipped = [], []
    for bench in cfg.selected:
        mark = fingerprint(name, settings[bench.key])
        state = manifest.benchmarks.get(bench.key) if manifest else None
        step = _decide(cfg, bench, mark, dict(settings[bench.key]), state, found.get(bench.key))
        if isinstance(step, str):
            skipped.append((bench.key, step))
        else:
            partial = f" (only the first {cfg.limit})" if cfg.limit else ""
            todo.append(dataclasses.replace(step, reason=step.reason + partial))
    todo, skipped = _read_alike(todo, skipped, settings, manifest, found)
    new = [] if manifest else _differences(run.current, others)
    return Plan(
        model,
        cfg.backend,
        name,
        run.fields,
        run.paths,
        tuple(todo),
        tuple(skipped),
        manifest,
        option_notes=(*cfg.ignored, *model.notes),
        state_notes=(*notes, *run.notes, *new),
        supplement=run.supplement_of(run.fields),
    )


def _decide(
    cfg: RunConfig,
    bench: Benchmark,
    mark: str,
    settings: dict[str, object],
    state: BenchmarkState | None,
    found: FoundResult | None,
) -> Todo | str:
    """Return a Todo, or the reason to skip the benchmark."""
    epoch = state.epoch if state else 0
    if cfg.rerun:
        # Without a state there are no older answers that a new epoch would have to invalidate.
        return Todo(
            bench, epoch + 1 if state else 0, mark, settings, "--rerun", aside=found is not None
        )
    if state is not None and state.fingerprint != mark:
        names = differing_fields(state.settings, settings)
        made = "scored" if names and SCORING_ONLY.issuperset(names) else "made"
        epoch += made == "made"
        return Todo(
            bench,
            epoch,
            mark,
            settings,
            f"{made} under other settings ({', '.join(names) or 'the run'})",
            aside=found is not None,
        )
    if found is None:
        return Todo(
            bench, epoch, mark, settings, state.reason or "not finished" if state else "not run yet"
        )
    if found.problem:
        return Todo(bench, epoch, mark, settings, found.problem, aside=True)
    # The files exist, but the manifest that they were made with does not.
    if found.fingerprint != mark:
        return Todo(
            bench, epoch + 1, mark, settings, "its files were made under other settings", aside=True
        )
    done = (found.limit is None and found.rows == found.total) or (
        cfg.limit is not None and found.limit == cfg.limit
    )
    if done and found.judging and found.limit == cfg.limit:
        return Todo(bench, epoch, mark, settings, found.judging, scored=True)
    if found.limit is None and found.rows == found.total:
        return f"complete, {found.rows} questions"
    if cfg.limit is not None and found.limit == cfg.limit:
        return f"its first {found.rows} questions are done (partial: --limit)"
    of = f" of {found.total}" if found.total is not None else ""
    how = f" (--limit {found.limit})" if found.limit is not None else ""
    return Todo(bench, epoch, mark, settings, f"holds {found.rows}{of} questions{how}", aside=True)


def _read_alike(
    todo: Sequence[Todo],
    skipped: Sequence[tuple[str, str]],
    settings: Mapping[str, Mapping[str, object]],
    manifest: Manifest | None,
    found: Mapping[str, FoundResult],
) -> tuple[list[Todo], list[tuple[str, str]]]:
    """Have the members of a group read by the same method.

    If one member has to run, or one was judged and another was not, then the finished members that
    a judge could read are added to the benchmarks to run.
    """
    doing = {step.bench.key for step in todo}
    partners = {
        key
        for group in GROUPS
        if doing.intersection(group.members) or _apart(group, found)
        for key in group.members
    } - doing
    more = []
    for key, _ in skipped:
        state = manifest.benchmarks.get(key) if manifest else None
        if key in partners and state is not None and found[key].judgeable:
            more.append(
                Todo(
                    by_key(key),
                    state.epoch,
                    state.fingerprint,
                    dict(settings[key]),
                    "is scored by the same method as its other half",
                    scored=True,
                )
            )
    kept = {step.bench.key for step in more}
    order = {key: place for place, key in enumerate(settings)}
    return sorted([*todo, *more], key=lambda step: order[step.bench.key]), [
        each for each in skipped if each[0] not in kept
    ]


def _apart(group: Group, found: Mapping[str, FoundResult]) -> bool:
    """Whether members of the group were read by different methods."""
    return len({found[key].method for key in group.members if key in found}) > 1


def _differences(fields: Mapping[str, object], others: Sequence[Manifest]) -> list[str]:
    """Say in which settings a new identity differs from the most similar known one."""
    different = [(known_differences(known_fields(other), fields), other) for other in others]
    if not different:
        return []
    names, nearest = min(different, key=lambda pair: (len(pair[0]), pair[1].identity))
    before = known_fields(nearest)
    told = [
        f"{name} ({before[name]} there, {fields[name]} here)" if name == "transformers" else name
        for name in names
    ]
    return [
        f"new settings for this model: {', '.join(told)} differ from run {nearest.identity[:8]}; "
        f"its results are kept"
    ]
