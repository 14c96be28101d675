"""Keeps failed questions out of VLMEvalKit's evaluation and describes them for its notes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from easi_eval.backends.vlmevalkit.question_rows import question_facts
from easi_eval.benchmarks import VLMEVALKIT, by_key
from easi_eval.engine.journal import Answer
from easi_eval.scores.row_table import SETS
from easi_eval.scores.scorer_notes import FailedItem

from .datasets import LoadedDataset


def items(key: str, dataset: LoadedDataset, answers: Mapping[str, Answer]) -> list[FailedItem]:
    """Return what the scorer notes of the failed questions among ``answers``.

    Args:
        key: The benchmark.
        dataset: Its table says the type and the right answer of each question.
        answers: Outcomes by item id.
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
    return found


@contextlib.contextmanager
def without_paired(failed: Sequence[FailedItem]) -> Iterator[None]:
    """Suppress the KeyError of 3DSRBench's evaluation for a set without the failed questions.

    It is raised when a question is missing from a set of paired ones. The evaluation has written
    its rows by then but no scores; the results are read from such rows.
    """
    sets = {name(one.variant) for one in failed if one.variant for name in SETS.values()}
    try:
        yield
    except KeyError as error:
        if str(error.args[0]) not in sets:
            raise
