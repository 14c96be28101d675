"""Decide what it means that data or weights changed since a benchmark was begun.

Its existing answers are kept, scored again or discarded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from ..benchmarks import Source, TsvData
from ..core.atomic_files import digest
from ..core.errors import EasiError
from ..core.events import Emit, Notice
from ..core.manifest import Manifest
from ..data.contents import content_of, contents, differing, known_of, only_truth_differs
from ..data.needs import Fetched, Kind
from .identity import fingerprint
from .plan import Plan, Todo

SCORED_AGAIN = "scored again"
STARTS_OVER = "starts over"

Met = Mapping[str, Mapping[str, Fetched]]  # fetched needs by benchmark and repository


def refuse_changed(weights: Sequence[str], fetched: Met, plan: Plan, manifest: Manifest) -> None:
    """Refuse to mix results of two versions of one checkpoint in one table.

    Args:
        weights: The repositories of the weights.
        fetched: What was fetched.
        plan: Its skipped benchmarks are those that are evaluated already.
        manifest: Records what they were evaluated with.

    Raises:
        EasiError: A checkpoint changed since a skipped benchmark was evaluated.
    """
    now = {
        repo: found for each in fetched.values() for repo, found in each.items() if repo in weights
    }
    for repo, found in now.items():
        old = [key for key, _ in plan.skipped if _changed(manifest, key, {repo: found})]
        if old:
            raise EasiError(
                f"{repo} changed on the hub since {', '.join(old)} were evaluated",
                hint="evaluate all of it again with --rerun, "
                f"or the old one at revision {manifest.revisions[repo]}",
            )


def begin(
    plan: Plan, manifest: Manifest, fetched: Met, emit: Emit, records: Path
) -> tuple[Plan, Manifest, dict[str, EasiError]]:
    """Update plan and manifest for the data that were fetched.

    A benchmark that was begun with other questions or another model starts over, because its
    answers would otherwise come from two versions. If only the correct answers changed, it is
    scored again.

    Args:
        plan: The plan; benchmarks that were not fetched are dropped from it.
        manifest: The manifest.
        fetched: What was fetched.
        emit: Receives messages about changes.
        records: The records folder, where digests of tables are cached.

    Returns:
        The new plan, the new manifest, and errors by benchmark for tables that cannot be read.
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
        step = _after(step, change, emit)
        if change == STARTS_OVER:
            plan.paths.item_list(key).unlink(missing_ok=True)
        begun = plan.paths.item_list(key).exists()
        # Otherwise answers exist and no record tells from which data; the present data must not be
        # recorded as theirs.
        if recorded is not None or before or not begun:
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
        todo.append(step)
    revisions = {repo: found.revision for each in fetched.values() for repo, found in each.items()}
    return (
        replace(plan, todo=tuple(todo)),
        replace(manifest, revisions={**manifest.revisions, **revisions}),
        unreadable,
    )


def _after(step: Todo, change: str, emit: Emit) -> Todo:
    """Return the step as it is after a change, and say what the change means."""
    title = step.bench.title
    if change == SCORED_AGAIN:
        emit(
            Notice(
                f"{title}: its right answers changed since it was started; no question is asked "
                f"again, all are scored again"
            )
        )
        return replace(step, scored=False)
    if change == STARTS_OVER:
        emit(
            Notice(
                f"{title}: its data or the model changed on the hub since it was started; it "
                f"starts over",
                "warning",
            )
        )
        return replace(step, epoch=step.epoch + 1, scored=False)
    return step


def table_state(path: Path) -> list[int]:
    """Return size and time of change of a table, to notice a change without reading it.

    Empty if there is no table.
    """
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
    """Decide what a change of data or model since the benchmark was begun means.

    Files are compared first; tables are read only if their files changed.

    Returns:
        SCORED_AGAIN, STARTS_OVER, or "" if nothing that matters changed; and the digests of the
        data, to be recorded.
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
    data = contents(source, fetched.values(), records, say) if by_value else _of_files(fetched)
    if not isinstance(recorded, Mapping):
        return STARTS_OVER if changed else "", data
    if other_model:
        return STARTS_OVER, data
    if recorded == data:
        return "", data
    if by_value:
        # If only the table changed, compare the questions without the media: their repository may
        # differ in files that do not matter, such as its card.
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


def _of_files(fetched: Mapping[str, Fetched]) -> dict[str, object]:
    """Return digests of the data by their files.

    While the tables stay the same, one digest of all files identifies questions and truth.
    """
    files = digest(
        sorted(
            [repo, known_of(found)["files"]]
            for repo, found in fetched.items()
            if found.need.repo_type == "dataset"
        )
    )
    return {"questions": files, "truth": files}


def made_from(manifest: Manifest, key: str) -> dict[str, str]:
    """Return the ``content_of`` the repositories that a benchmark was begun with, by repository."""
    return cast("dict[str, str]", manifest.benchmarks[key].evidence.get("data", {}))


def _files(manifest: Manifest, key: str) -> dict[str, dict[str, object]]:
    """Return the ``known_of`` these repositories; empty in manifests of older versions."""
    return cast("dict[str, dict[str, object]]", manifest.benchmarks[key].evidence.get("files", {}))


def _changed(manifest: Manifest, key: str, fetched: Mapping[str, Fetched]) -> list[str]:
    """Return the repositories whose content differs from what the benchmark was begun with."""
    before, files = made_from(manifest, key), _files(manifest, key)

    def same(repo: str, found: Fetched) -> bool:
        if before.get(repo, content := content_of(found)) == content:
            return True
        if repo in files:
            return not differing(files[repo], known_of(found))
        # The manifest has one commit per repository. It is that of this benchmark only if all
        # benchmarks were begun with the same content of the repository.
        others = {made_from(manifest, other).get(repo) for other in manifest.benchmarks} - {None}
        return manifest.revisions.get(repo) == found.revision != "" and len(others) == 1

    return [repo for repo, found in fetched.items() if not same(repo, found)]


def _made_from(manifest: Manifest, key: str, fetched: Mapping[str, Fetched]) -> dict[str, object]:
    """Return the updated ``content_of`` and ``known_of`` for the manifest.

    Values from a cache without a listing do not replace values from a full listing.
    """
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
