"""Finds out whether a task of lmms-eval could parse an answer.

A task rarely says so, but its own code can be called. A multiple-choice answer was parsed if it
would be right for one of the letters, so the task scores it once with each letter as the right
answer. This changes no score; unparsed answers are counted beside it.
"""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from easi_eval.benchmarks import LMMS_EVAL, Readable, RowRule, by_key

Doc = Mapping[str, Any]


def read(key: str, task: Any, doc: Doc, text: str, drawn: bool) -> bool | None:
    """Return whether the task found an answer in a text.

    Args:
        key: The benchmark.
        task: The task that scored it.
        doc: The question's row, which is not changed.
        text: The answer.
        drawn: Whether a random letter was drawn when the answer was scored.

    Returns:
        None if this cannot be told, or if the samples file says it.
    """
    source = by_key(key).source(LMMS_EVAL)
    if source.readable is None:
        return None
    with _quiet(task):
        return CHECKS[source.readable.check](
            _Scored(task, source.rows, source.readable), doc, text, drawn
        )


class _Scored:
    """Scores an answer with the task's own code."""

    def __init__(self, task: Any, rule: RowRule, readable: Readable) -> None:
        self._task, self._rule, self.readable = task, rule, readable

    def __call__(self, doc: Doc, text: str) -> float:
        """Return the score of ``text`` for this row, 0-1."""
        entry = self._task.process_results(dict(doc), [text])[self._rule.entry]
        return float(next(entry[name] for name in self._rule.score if name in entry))

    def own(self, name: str) -> Any:
        """Return a function or a constant of the task's module."""
        return self._task.config.process_results.__globals__[name]


def _letters(score: _Scored, doc: Doc, text: str, _: bool) -> bool:
    """The answer is right for one of the values that the right answer can have."""
    return any(
        score({**doc, score.readable.column: value}, text) > 0 for value in score.readable.values
    )


def _drawn(score: _Scored, doc: Doc, text: str, drawn: bool) -> bool:
    """SITE: the task draws a letter for an answer without one (parse_multi_choice_response)."""
    return not drawn


def _vsi(score: _Scored, doc: Doc, text: str, _: bool) -> bool:
    """VSI-Bench: the first word is a letter of the options, or there is a number."""
    if doc["question_type"] in score.own("NA_QUESTION_TYPES"):
        return score.own("extract_number")(text) is not None
    letters = string.ascii_uppercase[: len(doc.get("options") or ()) or 4]
    return any(score({**doc, "ground_truth": letter}, text) > 0 for letter in letters)


def _omnispatial(score: _Scored, doc: Doc, text: str, _: bool) -> bool:
    """OmniSpatial: the task takes the last "Answer: X", and A if there is none.

    An answer that scores as A may have none. Then an "Answer: B" put before it becomes the last.
    """
    if not score({**doc, "gt": "A"}, text):
        return True
    return not score({**doc, "gt": "B"}, f"Answer: B\n{text}")


def _spar(score: _Scored, doc: Doc, text: str, _: bool) -> bool:
    """SPAR-Bench: a number, a list of movements, or a text that is right for one letter only.

    An empty answer is right for all letters.
    """
    if doc["task"] in score.own("NA_QUESTION_TYPES"):
        try:
            # The task returns -1 where it finds no number. It parses no sign, so no answer is -1.
            return score.own("process_na")(text, doc["task"]) != -1
        except IndexError:
            return False
    if doc["task"] in score.own("SPECIAL_QUESTION_TYPES"):
        try:
            score.own("compute_vci_metric")(text, doc["answer"])
        except ValueError:
            return False
        return True
    if len(doc["answer"].strip()) != 1:
        return text != ""
    return sum(score({**doc, "answer": letter}, text) > 0 for letter in "ABCD") == 1


# By the name that ``readable.check`` of a benchmark's entry has for it.
CHECKS: Mapping[str, Callable[[_Scored, Doc, str, bool], bool]] = {
    "letters": _letters,
    "drawn": _drawn,
    "vsi": _vsi,
    "omnispatial": _omnispatial,
    "spar": _spar,
}


@contextlib.contextmanager
def _quiet(task: Any) -> Iterator[None]:
    """Disable the log of the task's module, which logs everything it scores."""
    from loguru import logger

    module = task.config.process_results.__globals__["__name__"]
    logger.disable(module)
    try:
        yield
    finally:
        logger.enable(module)
