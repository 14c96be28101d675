"""Questions that failed: VLMEvalKit's evaluation is not given them, and what their rows say comes from the dataset's table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from easi_eval.answering.journal import Answer
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.results.notes import FailedItem, add_failed
from easi_eval.results.recompute import SETS
from easi_eval.results.vlmevalkit_files import question_facts


@contextlib.contextmanager
def noted(key: str, dataset: Any, answers: Mapping[str, Answer], folder: Path) -> Iterator[None]:
    """Note the failed questions of benchmark ``key`` in ``folder``; inside, the evaluation runs without them.

    ``dataset``: our ``Loaded``. 3DSRBench's evaluation raises when a question lacks that it pairs others with, after it has
    written the rows: then there are rows and no scores, which is what the results are read as.
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
