"""Keeps failed questions out of lmms-eval's evaluator and describes them for the scorer's notes."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Mapping
from typing import Any

from easi_eval.backends.lmms_eval.question_rows import record_of
from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, by_key
from easi_eval.engine.journal import Answer
from easi_eval.scores.scorer_notes import FailedItem

from . import patches
from .tasks import item_id

# A dummy answer: scoring it makes the task give the question's kind and right answer. The score is
# thrown away.
PLACEHOLDER = "A"


def left_out(
    answers: Mapping[str, Answer], tasks: dict[str, Any]
) -> contextlib.AbstractContextManager[None]:
    """Make no requests for failed questions inside the context; lmms-eval skips rows without any.

    Args:
        answers: Outcomes by item id.
        tasks: Filled with the tasks that made requests, by name.
    """

    def answered(task: Any, requests: list[Any]) -> list[Any]:
        tasks.update({request.task_name: task for request in requests})
        return [request for request in requests if answers[item_id(request)].failure is None]

    return patches.choosing_requests(answered)


def items(
    key: str, task_name: str, answers: Mapping[str, Answer], tasks: Mapping[str, Any]
) -> list[FailedItem]:
    """Return what the scorer notes of the failed questions among ``answers``.

    Args:
        key: The benchmark.
        task_name: The task or group that was run.
        answers: Outcomes by item id.
        tasks: The tasks that made the requests, by name.
    """
    luck = random.getstate()
    found = [
        _item(key, task_name, item, answer.failure, tasks)
        for item, answer in answers.items()
        if answer.failure is not None
    ]
    random.setstate(luck)
    return found


def _item(key: str, task_name: str, item: str, reason: str, tasks: Mapping[str, Any]) -> FailedItem:
    name, _, row = item.rpartition(":")
    task = tasks[name]
    doc = dict(task.eval_docs_no_media[int(row)])
    if key not in ALL_KEYS:  # a task of the user's own: its rows are not read
        return FailedItem(item, "", str(task.doc_to_target(doc)), reason)
    sample = {
        "doc_id": int(row),
        "target": task.doc_to_target(doc),
        "filtered_resps": [""],
        **task.process_results(copy.copy(doc), [PLACEHOLDER]),
    }
    bench = by_key(key)
    facts = record_of(bench, bench.source(LMMS_EVAL, task_name), name, sample, item)
    return FailedItem(
        item,
        facts["question_type"],
        facts["target"],
        reason,
        facts["cluster"],
        facts["variant"],
        facts["options"],
    )
