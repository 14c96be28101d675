"""Signs that a run went wrong although every number is right: said above the table, and nothing is refused for them.

Each is of a kind that has stood unnoticed for weeks: thinking switched off, a token limit of 30, a broken chat template.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..answering.journal import Answer
from ..benchmarks import Benchmark

if TYPE_CHECKING:
    import pandas as pd

# Answers that ended at the token limit, or hold nothing: a model that is set up well has next to none of them.
LOST_SHARE = 0.02
# Tokens on average where the prompt asks to reason: fewer hold a letter and no reasoning.
REASONING_TOKENS = 3
# Questions that were given the same letter. Below so many questions chance alone makes it ...
ONE_LETTER_SHARE, ONE_LETTER_QUESTIONS = 0.90, 20
# ... and where the key itself has this letter for so many of them, it may well be right.
KEY_SHARE = 0.75
_LETTER = re.compile(r"\(?([A-Z])\)?")
_ANSWERED = re.compile(r"\W*([A-Z])\W*")


def warnings(bench: Benchmark, rows: pd.DataFrame, answers: Iterable[Answer]) -> tuple[str, ...]:
    """What is suspicious about the answers of one benchmark, a line each. ``rows``: ROW_COLUMNS; ``answers``: the journal's, none
    where there is no journal. What is not known of an answer makes nothing suspicious.
    """
    answered = rows[~rows["failed"]]
    if answered.empty:
        return ()
    texts = dict(zip(answered["item"], answered["answer"], strict=True))
    told = {answer.item: answer for answer in answers if answer.item in texts}
    found = (
        _lost(texts, told),
        _short(texts, told) if bench.reasons else "",
        _one_letter(answered),
    )
    return tuple(filter(None, found))


def _lost(texts: dict[str, str], told: dict[str, Answer]) -> str:
    cut = {item for item, answer in told.items() if answer.finish == "length"}
    empty = {item for item, text in texts.items() if not text.strip()}
    if len(cut | empty) <= LOST_SHARE * len(texts):
        return ""
    counts = [
        f"{len(cut)} ended at the token limit" if cut else "",
        f"{len(empty)} are empty" if empty else "",
    ]
    return f"of {len(texts)} answers {' and '.join(filter(None, counts))}: is the token limit (max_new_tokens, max_tokens) or the chat template right?"


def _short(texts: dict[str, str], told: dict[str, Answer]) -> str:
    """Where a class does not count tokens, no answer has more of them than bytes."""
    most = [
        count
        if item in told and (count := told[item].tokens) is not None
        else len(text.strip().encode("utf-8", "surrogatepass"))
        for item, text in texts.items()
    ]
    if sum(most) >= REASONING_TOKENS * len(most):
        return ""
    return f"its prompt asks to reason, and the answers have fewer than {REASONING_TOKENS} tokens on average: is thinking on, and the token limit right?"


def _one_letter(answered: pd.DataFrame) -> str:
    pairs = [
        (_letter(extracted) or _match(_ANSWERED, answer), _match(_LETTER, target.strip()))
        for extracted, answer, target in zip(
            answered["extracted"], answered["answer"], answered["target"], strict=True
        )
    ]
    asked = [(given, key) for given, key in pairs if given or key]
    if len(asked) < ONE_LETTER_QUESTIONS:
        return ""
    letter, count = Counter(given for given, _ in asked).most_common(1)[0]
    if (
        not letter
        or count <= ONE_LETTER_SHARE * len(asked)
        or sum(key == letter for _, key in asked) >= KEY_SHARE * len(asked)
    ):
        return ""
    return f"{count} of {len(asked)} questions with options were answered {letter}: does the model see the pictures and the question?"


def _letter(extracted: str | None) -> str:
    return _match(_LETTER, extracted.strip()) if isinstance(extracted, str) else ""


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.fullmatch(text)
    return found[1] if found else ""
