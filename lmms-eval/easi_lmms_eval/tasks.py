"""lmms-eval's tasks and requests as benchmarks and items of a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easi_eval.benchmarks import LMMS_EVAL
from easi_eval.core.errors import is_full, worded
from easi_eval.engine.work import Item, ItemList, Work, load_work

from .costs import costs


def asked_work(run_root: Path) -> Work:
    """Return what is to be run, from ``--tasks`` and ``--limit`` in ``sys.argv``.

    It is read before lmms-eval is imported, which takes half a minute.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--tasks", default="")
    options.add_argument("--limit", type=int)
    known, _ = options.parse_known_args()
    return load_work(run_root, LMMS_EVAL, known.tasks.split(","), known.limit)


def item_id(request: Any) -> str:
    """Return ``task:row``; every process numbers rows alike, in document order."""
    return f"{request.task_name}:{request.doc_id}"


def benchmark_of(task_name: str, work: Work) -> str:
    """Return the key of the benchmark that a request's task belongs to.

    The subtasks of a group (``blink_counting``) begin with the group's name.

    Raises:
        KeyError: The task was not asked for.
    """
    by_task = {assignment.task: assignment.key for assignment in work.benchmarks}
    if task_name in by_task:
        return by_task[task_name]
    prefixes = [task for task in by_task if task_name.startswith(task + "_")]
    if not prefixes:
        raise KeyError(f"lmms-eval built requests of task {task_name!r}, which was not asked for")
    return by_task[max(prefixes, key=len)]


def list_items(
    run_root: Path, work: Work, requests: Sequence[Any], task_dict: Mapping[str, Any]
) -> dict[str, list[Item]]:
    """Group requests by benchmark and save the list of item ids in the run's folder.

    Progress, scoring and the check for completeness read that list.
    """
    items: dict[str, list[Item]] = {assignment.key: [] for assignment in work.benchmarks}
    rows: dict[str, dict[str, int]] = {key: {} for key in items}
    for request, cost in zip(requests, costs(requests, task_dict), strict=True):
        key = benchmark_of(request.task_name, work)
        items[key].append(Item(key, item_id(request), cost))
        rows[key][request.task_name] = len(task_dict[request.task_name][request.metadata["split"]])
    for key, found in items.items():
        limit = next(assignment.limit for assignment in work.benchmarks if assignment.key == key)
        ItemList(
            key,
            sum(rows[key].values()),
            tuple(item.id for item in found),
            limit,
            tuple(item.cost for item in found),
        ).save(run_root)
    return items


def why_unreadable(error: BaseException) -> str:
    """Return in words why a task's data cannot be read.

    lmms-eval's error says only that it retried, and the datasets library's that it failed; the
    reason is in the cause of both.
    """
    full = (
        "the disk is full: its data could not be prepared (set HF_DATASETS_CACHE to another "
        "folder): "
        if is_full(error)
        else ""
    )
    while (
        type(error).__name__ in ("RetryError", "DatasetGenerationError")
        and error.__cause__ is not None
    ):
        error = error.__cause__
    return f"{full}{worded(error)}"
