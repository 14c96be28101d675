"""Observes lmms-eval's scoring for what its files do not say.

This is which letters were drawn at random, and which answers could not be parsed.

A task rarely says whether it could parse an answer, but its own code can be called. A
multiple-choice answer was parsed if it would be right for one of the letters, so the task scores it
once with each letter as the right answer. This changes no score; unparsed answers are counted
beside it.
"""

from __future__ import annotations

import contextlib
import random
import string
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easi_eval.benchmarks import ALL_KEYS, LMMS_EVAL, Readable, RowRule, by_key
from easi_eval.engine.journal import Answer

from . import failed, patches
from .tasks import item_id

Doc = Mapping[str, Any]


@dataclass
class Seen:
    """What was observed of one benchmark; items are in document order.

    Attributes:
        draws: How many random letters were drawn.
        flipped: Items whose score rests on a random letter.
        unread: Items whose answer could not be parsed. None if the task does not show it, or if its
            own files say it.
        tasks: The tasks that made requests, by name.
    """

    draws: int = 0
    flipped: list[str] = field(default_factory=list)
    unread: list[str] | None = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)

    def notes(self) -> dict[str, object]:
        """Return the members of the scorer's notes (``easi_eval/scores/scorer_notes.py``)."""
        return {"coin_flips": self.draws, "flipped": self.flipped, "unparsed": self.unread}

    def judge(self, key: str, task: Any, item: str, doc: Doc, text: Any, drawn: bool) -> None:
        """Record one scored question.

        Args:
            key: The benchmark.
            task: The task that scored it.
            item: The item's id.
            doc: The question's row as it was before scoring.
            text: What the task was given to parse.
            drawn: Whether a random letter was drawn for it.
        """
        if drawn:
            self.flipped.append(item)
        if self.unread is None:
            return
        try:
            read = could_read(key, task, doc, text, drawn) if isinstance(text, str) else None
        except Exception:  # from the task's own code: the count is lost, the score is not
            traceback.print_exc()
            read = None
        if read is None:
            self.unread = None
        elif not read:
            self.unread.append(item)


@contextlib.contextmanager
def watched(key: str, answers: Mapping[str, Answer]) -> Iterator[Seen]:
    """Observe lmms-eval's scoring of a benchmark inside the context.

    Failed questions are left out of the scoring.
    """
    seen = Seen()

    def choice(choose: patches.Choose, options: Sequence[Any]) -> Any:
        seen.draws += 1
        return choose(options)

    def process_document(
        process: Callable[..., Any],
        item: tuple[Any, Mapping[str, Any], Sequence[Any]],
        **options: Any,
    ) -> Any:
        _, doc, requests = item
        before, asked = seen.draws, dict(doc)
        done = process(item, **options)
        text = requests[0].filtered_resps[options["filter_key"]]
        luck, draws = random.getstate(), seen.draws
        seen.judge(key, options["task"], item_id(requests[0]), asked, text, draws > before)
        # The letters still to be drawn must not depend on this observation.
        random.setstate(luck)
        seen.draws = draws
        return done

    with patches.wrapped_scoring(choice, process_document), failed.left_out(answers, seen.tasks):
        yield seen


def could_read(key: str, task: Any, doc: Doc, text: str, drawn: bool) -> bool | None:
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
    if key not in ALL_KEYS:  # a task of the user's own
        return None
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
