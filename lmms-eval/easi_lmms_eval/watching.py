"""What lmms-eval's scoring does not write down, seen while it scores: letters drawn by lot, and answers it could not read."""

from __future__ import annotations

import contextlib
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easi_eval.answering.journal import Answer

from . import failed, readable
from .session import item_id


@dataclass
class Seen:
    """Of one benchmark: items in document order. ``unread`` None: its task leaves open what it could read, or says it itself."""

    draws: int = 0
    flipped: list[str] = field(default_factory=list)
    unread: list[str] | None = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)

    def notes(self) -> dict[str, object]:
        """The members of the scorer's notes (``easi_eval/results/notes.py``)."""
        return {"coin_flips": self.draws, "flipped": self.flipped, "unparsed": self.unread}

    def judge(
        self, key: str, task: Any, item: str, doc: Mapping[str, Any], text: Any, drawn: bool
    ) -> None:
        """Take in one question: ``doc`` as it was before scoring, ``text`` what the task was given to read."""
        if drawn:
            self.flipped.append(item)
        if self.unread is None:
            return
        try:
            read = readable.read(key, task, doc, text, drawn) if isinstance(text, str) else None
        except Exception:  # whatever a task's own code raises: the count is lost, the score is not
            traceback.print_exc()
            read = None
        if read is None:
            self.unread = None
        elif not read:
            self.unread.append(item)


@contextlib.contextmanager
def watched(key: str, answers: Mapping[str, Answer]) -> Iterator[Seen]:
    """Inside, lmms-eval scores benchmark ``key`` without the questions that failed, and what it does is seen."""
    from lmms_eval import evaluator

    seen = Seen()
    choose, process = random.choice, evaluator._process_document_results

    def choice(options: Sequence[Any]) -> Any:
        seen.draws += 1
        return choose(options)

    def process_document(item: tuple[Any, Mapping[str, Any], Sequence[Any]], **options: Any) -> Any:
        _, doc, requests = item
        before, asked = seen.draws, dict(doc)
        done = process(item, **options)
        text = requests[0].filtered_resps[options["filter_key"]]
        luck, draws = random.getstate(), seen.draws
        seen.judge(key, options["task"], item_id(requests[0]), asked, text, draws > before)
        random.setstate(
            luck
        )  # the letters that are still to be drawn do not depend on being watched
        seen.draws = draws
        return done

    random.choice, evaluator._process_document_results = choice, process_document
    try:
        with failed.left_out(answers, seen.tasks):
            yield seen
    finally:
        random.choice, evaluator._process_document_results = choose, process
