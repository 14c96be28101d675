"""Keeps failed questions out of VLMEvalKit's evaluation and records them in the scorer's notes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from easi_eval.backends.vlmevalkit.question_rows import question_facts
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.engine.journal import Answer
from easi_eval.scores.recompute import SETS
from easi_eval.scores.scorer_notes import FailedItem, add_failed


@contextlib.contextmanager
def noted(key: str, dataset: Any, answers: Mapping[str, Answer], folder: Path) -> Iterator[None]:
    """Record the failed questions of a benchmark, then run the evaluation inside the context.

    3DSRBench's evaluation raises KeyError when a question is missing from a set of paired ones. It
    has written its rows by then but no scores; the results are read from such rows. That KeyError
    is suppressed.

    Args:
        key: The benchmark.
        dataset: ``datasets.Loaded``; its table says the type and the right answer of each question.
        answers: Outcomes by item id.
        folder: Where the scorer's notes are written.
    """
    rule = by_key(key).source(VLMEVALKIT).rows
    table = dataset.source.data
    found = []
    for item, answer in answers.items():
        if answer.failure is not None:
            facts = question_facts(rule, table.iloc[dataset.rows[item]].to_dict())
            found.append(
                FailedItem(
                    item,
                    facts["question_type"],
                    facts["target"],
                    answer.failure,
                    facts["cluster"],
                    facts["variant"],
                    facts["options"],
                )
            )
    add_failed(folder, found)
    sets = {name(one.variant) for one in found if one.variant for name in SETS.values()}
    try:
        yield
    except KeyError as error:
        if str(error.args[0]) not in sets:
            raise
