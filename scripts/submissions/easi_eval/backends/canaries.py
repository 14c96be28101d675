"""Warnings about answers that look wrong although the scores follow correctly from them.

The warnings are printed above the score table; no result is rejected because of them. They cover
mistakes that are easy to overlook for weeks: thinking switched off, a token limit of 30, a broken
chat template.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..benchmarks import Benchmark
from ..engine.journal import Answer

if TYPE_CHECKING:
    import pandas as pd

# Share of answers that ended at the token limit or are empty. A correctly configured model has
# almost none of them.
LOST_SHARE = 0.02
# Average number of tokens where the prompt asks for reasoning. Shorter answers have room for a
# letter only.
REASONING_TOKENS = 3
# Share of questions answered with the same letter, and the number of questions below which this may
# be chance.
ONE_LETTER_SHARE, ONE_LETTER_QUESTIONS = 0.90, 20
# If that letter is the right answer for this share of the questions, there is nothing to warn
# about.
KEY_SHARE = 0.75
_LETTER = re.compile(r"\(?([A-Z])\)?")
_ANSWERED = re.compile(r"\W*([A-Z])\W*")


def warnings(bench: Benchmark, rows: pd.DataFrame, answers: Iterable[Answer]) -> tuple[str, ...]:
    """Return the warnings about the answers to one benchmark, one line each.

    An unknown fact about an answer, for example a missing finish reason, never causes a warning.

    Args:
        bench: The benchmark; ``bench.reasons`` says whether its prompt asks for reasoning.
        rows: The per-question table, with ROW_COLUMNS.
        answers: The answers from the journal; empty if the run has no journal.
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
    return (
        f"of {len(texts)} answers {' and '.join(filter(None, counts))}: "
        "check the token limit (max_new_tokens, max_tokens) and the chat template"
    )


def _short(texts: dict[str, str], told: dict[str, Answer]) -> str:
    """Warn if the average answer is too short to hold any reasoning.

    Where the model class does not count tokens, the number of bytes stands in for it: a text never
    has more tokens than bytes.
    """
    most = [
        count
        if item in told and (count := told[item].tokens) is not None
        else len(text.strip().encode("utf-8", "surrogatepass"))
        for item, text in texts.items()
    ]
    if sum(most) >= REASONING_TOKENS * len(most):
        return ""
    return (
        f"its prompt asks for reasoning, but the answers have fewer than {REASONING_TOKENS} "
        f"tokens on average: check the thinking mode and the token limit"
    )


def _one_letter(answered: pd.DataFrame) -> str:
    """Warn if nearly all multiple-choice questions have the same answer letter."""
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
    return (
        f"{count} of {len(asked)} multiple-choice questions were answered {letter}: check that "
        f"the model gets the images and the question"
    )


def _letter(extracted: str | None) -> str:
    return _match(_LETTER, extracted.strip()) if isinstance(extracted, str) else ""


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.fullmatch(text)
    return found[1] if found else ""
