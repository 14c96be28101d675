"""Getting data and weights before anything is started, and what their change means for answers that are there already."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from .answering.work import ItemList
from .backends.adapters import checkpoints
from .backends.base import Backend
from .backends.common import weights_need
from .backends.newer_checkpoints import shadows
from .backends.references import Reference, bare_adapter, base_of, lay_out, reached
from .benchmarks import Source, TsvData
from .data.contents import content_of, contents, differing, known_of, only_truth_differs
from .data.needs import Fetched, HubSettings, Kind, Need, Unreachable
from .datasets import fetch
from .display.events import Emit, Notice
from .errors import DiskFull, EasiError, NoRoom
from .model import ModelChoice
from .plan import Plan
from .results.data_check import of_content
from .state import Manifest, digest, fingerprint, sanitise

SCORED_AGAIN, STARTS_OVER = "scored again", "starts over"
Met = Mapping[str, Mapping[str, Fetched]]  # by benchmark, by repository


def fetch_each(
    needs: Mapping[str, Sequence[Need]], emit: Emit, hub: HubSettings
) -> tuple[dict[str, dict[str, Fetched]], dict[str, EasiError]]:
    """What each benchmark reads, by repository, and why some cannot be had; one whose data are missing fails alone.

    Raises EasiError if none can be had, or the hub cannot be reached.
    """
    try:
        found = {
            f.need: f for f in fetch([need for each in needs.values() for need in each], emit, hub)
        }
        return {key: {need.repo: found[need] for need in each} for key, each in needs.items()}, {}
    except (
        Unreachable,
        NoRoom,
        DiskFull,
    ):  # of all of them; one by one they would fill the disk, or wait anew
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
    """Take those benchmarks out of ``fetched`` of which a cache lacks something, and say what. Raises EasiError if none is left."""
    from .data.lacking import refuse_lacking

    failed: dict[str, EasiError] = {}
    for step in plan.todo:
        if found := fetched.get(step.bench.key):
            try:
                refuse_lacking(
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
    """What the checkpoints in ``folders`` refer to on the hub, and what that refers to, by repository; without those of ``have``.

    What cannot be had is told and left out: whether the model's class needs it shows when it is loaded.
    """
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
    backend: Backend,
    target: Path,
    translated: bool = False,
) -> ModelChoice:
    """The choice as the workers get it: an adapter of a hub id or folder, together with its base, as one folder below ``target``;
    with ``translated`` also what transformers 5 saved, in the form of transformers 4.
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
            if not base_lies.is_dir():  # nothing was fetched, as nothing is left to answer
                continue
            folder = target / sanitise(f"{Path(base).name}+{Path(name).name}")
            lay_out(adapter, base_lies, folder)
        if folder != lies[name]:
            model = backend.localise(model, name, folder.absolute())
    return model


def refuse_changed(weights: Sequence[str], fetched: Met, plan: Plan, manifest: Manifest) -> None:
    """Refuse to put results of two versions of one checkpoint into one table."""
    now = {
        repo: found for each in fetched.values() for repo, found in each.items() if repo in weights
    }
    for repo, found in now.items():
        old = [key for key, _ in plan.skipped if _changed(manifest, key, {repo: found})]
        if old:
            raise EasiError(
                f"{repo} changed on the hub since {', '.join(old)} were evaluated",
                hint=f"evaluate all of it again with --rerun, or the old one at revision {manifest.revisions[repo]}",
            )


def begin(
    plan: Plan, manifest: Manifest, fetched: Met, emit: Emit, records: Path
) -> tuple[Plan, Manifest, dict[str, EasiError]]:
    """Plan and manifest with what is there, and which benchmarks' tables cannot be read. A benchmark that was begun with other questions
    or another model starts over: its answers would be of two kinds; one with other right answers alone is scored again.
    """
    todo, unreadable, earlier = [], dict[str, EasiError](), manifest
    for step in plan.todo:
        key = step.bench.key
        if key not in fetched:
            continue
        source = step.bench.source(plan.backend, str(step.settings.get("task", "")))
        before = made_from(earlier, key)
        recorded = step.settings.get("data")
        try:
            change, data = _change(source, earlier, key, fetched[key], recorded, records, emit)
        except EasiError as error:
            unreadable[key] = error
            continue
        if change == SCORED_AGAIN:
            emit(
                Notice(
                    f"{step.bench.title}: its right answers changed since it was begun; no question is asked again, all are scored again"
                )
            )
            step = replace(step, scored=False)
        elif change:
            emit(
                Notice(
                    f"{step.bench.title}: its data or the model changed on the hub since it was begun; it starts over",
                    "warning",
                )
            )
            step = replace(step, epoch=step.epoch + 1, scored=False)
            ItemList.path(plan.paths.root, key).unlink(missing_ok=True)
        begun = ItemList.path(plan.paths.root, key).exists()
        if (
            recorded is not None or before or not begun
        ):  # else nobody knows what the answers that are there were made from
            settings = {**step.settings, "data": data}
            step = replace(
                step, settings=settings, fingerprint=fingerprint(plan.identity, settings)
            )
        manifest = manifest.with_state(
            key,
            epoch=step.epoch,
            fingerprint=step.fingerprint,
            settings=step.settings,
            evidence={
                **_made_from(earlier, key, fetched[key]),
                **_table_of(fetched[key].values()),
            },
        )
        if content := of_content(source, step.settings.get("data")):
            emit(Notice(f"{step.bench.title}: {content}", "warning"))
        todo.append(step)
    revisions = {repo: found.revision for each in fetched.values() for repo, found in each.items()}
    return (
        replace(plan, todo=tuple(todo)),
        replace(manifest, revisions={**manifest.revisions, **revisions}),
        unreadable,
    )


def table_state(path: Path) -> list[int]:
    """Tells at a glance whether a table may have changed; empty where there is none."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []


def _table_of(fetched: Iterable[Fetched]) -> dict[str, object]:
    tables = [each.path for each in fetched if each.need.kind is Kind.FILE]
    return {"table": table_state(tables[0])} if tables else {}


def _change(
    source: Source,
    manifest: Manifest,
    key: str,
    fetched: Mapping[str, Fetched],
    recorded: object,
    records: Path,
    emit: Emit,
) -> tuple[str, Mapping[str, object]]:
    """What a change since the benchmark was begun means, and what is to be recorded of its data.

    SCORED_AGAIN, STARTS_OVER, or "" where nothing changed. Files come first: values are only
    compared where files are others than before.
    """

    def say(line: str) -> None:
        emit(Notice(line))

    before, files = made_from(manifest, key), _files(manifest, key)
    changed = _changed(manifest, key, fetched)
    other_model = any(fetched[repo].need.repo_type == "model" for repo in changed)
    open_ones = [
        repo
        for repo, found in fetched.items()
        if found.need.repo_type == "dataset" and (repo in changed or repo not in before)
    ]
    if isinstance(recorded, Mapping) and not open_ones:
        return STARTS_OVER if other_model else "", recorded
    by_value = isinstance(source.data, TsvData) or (
        isinstance(recorded, Mapping)
        and not files.keys() >= set(open_ones)  # begun by a version that read every table
    )
    data: Mapping[str, object]
    if by_value:
        data = contents(source, fetched.values(), records, say)
    else:
        # Until the tables change, their files tell both apart from others.
        files_now = digest(
            sorted(
                [repo, known_of(found)["files"]]
                for repo, found in fetched.items()
                if found.need.repo_type == "dataset"
            )
        )
        data = {"questions": files_now, "truth": files_now}
    if not isinstance(recorded, Mapping):
        return STARTS_OVER if changed else "", data
    if other_model:
        return STARTS_OVER, data
    if recorded == data:
        return "", data
    if by_value:
        # Where the table alone changed, media need not be the same to the byte of their card.
        tables = all(fetched[repo].need.kind is Kind.FILE for repo in open_ones)
        what = "table" if tables and "table" in recorded else "questions"
        if recorded.get(what) != data[what]:
            return STARTS_OVER, data
        return SCORED_AGAIN if recorded.get("truth") != data["truth"] else "", data
    same = all(
        repo in files and only_truth_differs(source, files[repo], fetched[repo], say)
        for repo in open_ones
    )
    if not same:
        return STARTS_OVER, data
    return SCORED_AGAIN, {**data, "questions": recorded.get("questions")}


def made_from(manifest: Manifest, key: str) -> dict[str, str]:
    """What a benchmark's answers were made from, by repository, as ``content_of`` gives it."""
    return cast("dict[str, str]", manifest.benchmarks[key].evidence.get("data", {}))


def _files(manifest: Manifest, key: str) -> dict[str, dict[str, object]]:
    """The same as ``known_of`` gives it; older manifests do not hold it."""
    return cast("dict[str, dict[str, object]]", manifest.benchmarks[key].evidence.get("files", {}))


def _changed(manifest: Manifest, key: str, fetched: Mapping[str, Fetched]) -> list[str]:
    """The repositories that hold something else than what the benchmark was begun with."""
    before, files = made_from(manifest, key), _files(manifest, key)

    def same(repo: str, found: Fetched) -> bool:
        if before.get(repo, content := content_of(found)) == content:
            return True
        if repo in files:
            return not differing(files[repo], known_of(found))
        # The commit tells it, if it is that of this benchmark: none was begun with other data since.
        others = {made_from(manifest, other).get(repo) for other in manifest.benchmarks} - {None}
        return manifest.revisions.get(repo) == found.revision != "" and len(others) == 1

    return [repo for repo, found in fetched.items() if not same(repo, found)]


def _made_from(manifest: Manifest, key: str, fetched: Mapping[str, Fetched]) -> dict[str, object]:
    """Both, for the manifest; what a bare cache can tell does not replace what a whole listing told."""
    before, files = made_from(manifest, key), _files(manifest, key)
    changed = _changed(manifest, key, fetched)
    new = {
        repo: found
        for repo, found in fetched.items()
        if repo not in before
        or repo in changed
        or found.listed
        or not files.get(repo, {"listed": True})["listed"]
    }
    return {
        "data": {**before, **{repo: content_of(found) for repo, found in new.items()}},
        "files": {**files, **{repo: known_of(found) for repo, found in new.items()}},
    }
