"""Observes lmms-eval's scoring for what its files do not say.

This is which letters were drawn at random, and which answers could not be parsed.
"""

from __future__ import annotations

import contextlib
import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easi_eval.engine.journal import Answer

from . import failed, patches, readable
from .tasks import item_id


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

    def judge(
        self, key: str, task: Any, item: str, doc: Mapping[str, Any], text: Any, drawn: bool
    ) -> None:
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
            read = readable.read(key, task, doc, text, drawn) if isinstance(text, str) else None
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
