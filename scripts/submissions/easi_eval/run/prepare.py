"""Prepare an evaluation: fetch data and weights, and lay out checkpoints for the workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ..backends.base import Resolver
from ..backends.shared.adapter_folder import bare_adapter, base_of, lay_out
from ..backends.shared.adapters import checkpoints
from ..backends.shared.model_files import weights_need
from ..backends.shared.newer_checkpoints import read_as_they_are, shadows
from ..backends.shared.references import Reference, reached
from ..core.errors import DiskFull, EasiError, NoRoom, Unreachable
from ..core.events import BenchmarkScored, Emit, Notice, PhaseStarted
from ..core.model import ModelChoice
from ..core.run_folder import sanitise
from ..data import lacking
from ..data.needs import Fetched, HubSettings, Need
from ..scores.data_check import content_note
from ..scores.score_table import State
from .context import RunContext
from .data_changes import begin, refuse_changed
from .import_probe import import_probe
from .plan import Plan
from .run_progress import has_unanswered
from .run_record import RunRecord


def prepare(
    context: RunContext, plan: Plan, record: RunRecord, emit: Emit
) -> tuple[Plan, ModelChoice]:
    """Fetch data and weights, and adapt the plan where they changed since the last start.

    A benchmark whose data cannot be used is recorded as failed.

    Returns:
        The plan for the other benchmarks, and the model with its checkpoints as the workers load
        them.
    """
    backend, hub = context.backend, context.hub
    emit(PhaseStarted("prepare", hub.endpoint))
    asking = has_unanswered(context.cfg, plan)
    weights = backend.weights(context.model) if asking else []
    needs = {bench.key: [*backend.needs(context.cfg, bench), *weights] for bench in plan.benchmarks}
    with import_probe(context, emit) if asking else nullcontext(emit) as watched:
        fetched, failed = fetch_each(needs, watched, hub)
    _note_failures({**failed, **refuse_lacking(plan, fetched, hub)}, record, emit)
    repos = [need.repo for need in weights]
    snapshots: dict[str, Path] = {}
    if asking:
        here = {
            repo: found.path
            for each in fetched.values()
            for repo, found in each.items()
            if repo in repos
        }
        local = [here.get(name, Path(name)) for name in checkpoints(context.model)]
        referred = fetch_referred(local, repos, emit, hub)
        fetched = {key: {**each, **referred} for key, each in fetched.items()}
        snapshots = {**here, **{repo: found.path for repo, found in referred.items()}}
    refuse_changed([*repos, *snapshots], fetched, plan, record.manifest)
    plan, manifest, unreadable = begin(plan, record.manifest, fetched, emit, hub.records)
    record.manifest = manifest
    _note_failures(unreadable, record, emit)
    for step in () if context.cfg.smoke else plan.todo:  # a rehearsal has made-up data
        source = step.bench.source(plan.backend, str(step.settings.get("task", "")))
        if content := content_note(source, step.settings.get("data")):
            emit(Notice(f"{step.bench.title}: {content}", "warning"))
    record.keep()
    if not plan.todo:
        return plan, context.model
    translated = read_as_they_are(context.cfg, backend, context.model)
    return plan, laid_out(context.model, snapshots, backend, plan.paths.checkpoint, translated)


def _note_failures(failed: Mapping[str, EasiError], record: RunRecord, emit: Emit) -> None:
    for key, error in failed.items():
        record.note_failure(key, error.message)
        emit(BenchmarkScored(key, None, str(State.FAILED), error.message))


def fetch_each(
    needs: Mapping[str, Sequence[Need]], emit: Emit, hub: HubSettings
) -> tuple[dict[str, dict[str, Fetched]], dict[str, EasiError]]:
    """Fetch the needs of each benchmark; one whose data cannot be fetched does not stop the others.

    Returns:
        What was fetched, by benchmark and repository, and the errors by benchmark.

    Raises:
        Unreachable: The hub cannot be reached.
        NoRoom: The disk has too little space for all of them.
        DiskFull: The disk became full.
        EasiError: No benchmark's data can be fetched.
    """
    from ..data.fetch import fetch  # loads the hub's client, which is slow

    try:
        found = {
            f.need: f for f in fetch([need for each in needs.values() for need in each], emit, hub)
        }
        return {key: {need.repo: found[need] for need in each} for key, each in needs.items()}, {}
    except (Unreachable, NoRoom, DiskFull):
        # These concern all benchmarks. Fetching them one by one would wait for the hub again for
        # each, or fill the disk.
        raise
    except EasiError as error:
        fetched: dict[str, dict[str, Fetched]] = {}
        failed: dict[str, EasiError] = {}
        for key, each in needs.items():
            try:
                fetched[key] = {f.need.repo: f for f in fetch(each, emit, hub)}
            except DiskFull:
                raise
            except EasiError as one:
                failed[key] = one
        if not fetched:
            raise list(failed.values())[-1] from error
        return fetched, failed


def refuse_lacking(
    plan: Plan, fetched: dict[str, dict[str, Fetched]], hub: HubSettings
) -> dict[str, EasiError]:
    """Remove benchmarks from ``fetched`` whose data in the cache are visibly incomplete.

    Returns:
        The errors by benchmark.

    Raises:
        EasiError: No benchmark is left.
    """
    failed: dict[str, EasiError] = {}
    for step in plan.todo:
        if found := fetched.get(step.bench.key):
            try:
                lacking.refuse_lacking(
                    step.bench.source(plan.backend, str(step.settings.get("task", ""))),
                    list(found.values()),
                    hub,
                )
            except EasiError as error:
                failed[step.bench.key] = error
                del fetched[step.bench.key]
    if failed and not fetched:
        raise next(iter(failed.values()))
    return failed


def fetch_referred(
    folders: Sequence[Path], have: Collection[str], emit: Emit, hub: HubSettings
) -> dict[str, Fetched]:
    """Fetch the repositories that checkpoints refer to, such as an adapter's base or remote code.

    References of the fetched repositories are followed as well. One that cannot be fetched is
    reported and left out, because only loading the model shows whether it is needed.

    Args:
        folders: The checkpoints.
        have: Repositories that are fetched already; they are left out.
        emit: Receives progress and warnings.
        hub: The hub.

    Returns:
        What was fetched, by repository.

    Raises:
        NoRoom: The disk has too little space.
        DiskFull: The disk became full.
    """
    from ..data.fetch import fetch  # loads the hub's client, which is slow

    found: dict[str, Fetched] = {}

    def lies(reference: Reference) -> Path | None:
        return found[reference.name].path if reference.name in found else reference.folder

    for reference in reached(folders, lies):
        name = reference.name
        if reference.folder is not None or name in have or (reference.code and name in found):
            continue
        need = weights_need(name)
        if reference.code:
            need = replace(need, what=f"code {name}", allow=("*.py",))
        try:
            (found[name],) = fetch([need], emit, hub)
        except (NoRoom, DiskFull):
            raise
        except EasiError as error:
            emit(
                Notice(
                    f"the checkpoint refers to {name}, which cannot be fetched: {error.message}",
                    "warning",
                )
            )
    return found


def laid_out(
    model: ModelChoice,
    snapshots: Mapping[str, Path],
    resolver: Resolver,
    target: Path,
    translated: bool = False,
) -> ModelChoice:
    """Return the model with its checkpoints as the workers load them.

    An adapter and its base become one folder. Other checkpoints are passed on as they are.

    Args:
        model: The model.
        snapshots: Folders of fetched repositories; other names are taken for folders.
        resolver: The backend, which knows where a model's class takes its checkpoints.
        target: Folder below which new folders are made.
        translated: Also convert checkpoints that transformers 5 saved, so that transformers 4 can
            load them.
    """
    names = checkpoints(model)
    lies = {name: snapshots.get(name, Path(name)) for name in [*names, *filter(None, [model.base])]}
    made = (
        shadows([folder.absolute() for folder in lies.values()], snapshots, target.absolute())
        if translated
        else {}
    )
    for name in names:
        folder = made.get(lies[name].absolute(), lies[name])
        adapter = bare_adapter(folder)
        if adapter is not None:
            base = model.base or base_of(adapter)
            base_lies = lies.get(base, snapshots.get(base, Path(base)))
            base_lies = made.get(base_lies.absolute(), base_lies)
            if not base_lies.is_dir():  # not fetched, because no question is left to answer
                continue
            folder = target / sanitise(f"{Path(base).name}+{Path(name).name}")
            lay_out(adapter, base_lies, folder)
        if folder != lies[name]:
            model = resolver.localise(model, name, folder.absolute())
    return model
