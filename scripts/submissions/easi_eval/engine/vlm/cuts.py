"""Detection of answers of which a model class kept only the beginning.

The text that the tokenizer decoded is compared with the text that the class returned.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

# Marks that end a model's turn and can occur in a decoded text; text after them is no answer.
_MARK = (
    r"(?:<\|[^|<>]*\|>|</?s>|<end_of_\w+>|<(?:eos|bos|pad)>|\[UNUSED_TOKEN_\d+\]|\|ENDOFTEXT\||###)"
)
_LEADING = re.compile(rf"(?:\s|{_MARK})*")
_END = re.compile(_MARK)
_NEXT = re.compile(r"\s+|\S{1,12}")


class Decoded:
    """Records the texts that tokenizers decode in the thread that creates it.

    It replaces ``decode`` of transformers' tokenizers for the rest of the process.
    """

    def __init__(self) -> None:
        from transformers import PreTrainedTokenizerBase

        self._texts: list[str] = []
        base: Any = PreTrainedTokenizerBase  # no precise type allows a method to be replaced
        thread, decode = threading.get_ident(), base.decode

        def watched(tokenizer: Any, *args: Any, **options: Any) -> Any:
            decoded = decode(tokenizer, *args, **options)
            if threading.get_ident() == thread:
                # transformers 5 decodes batches with this method too and returns a list.
                self._texts += (
                    [decoded]
                    if isinstance(decoded, str)
                    else [text for text in decoded if isinstance(text, str)]
                )
            return decoded

        base.decode = watched

    def forget(self) -> None:
        """Clear the record, before the model is asked something new."""
        self._texts.clear()

    def cuts(self, answers: Sequence[str], stops: Sequence[str] = ()) -> list[str]:
        """Call the function ``cuts`` with the texts decoded since the last ``forget``."""
        return cuts(answers, self._texts, stops)


def cuts(answers: Sequence[str], decoded: Sequence[str], stops: Sequence[str] = ()) -> list[str]:
    """The stop string at which each answer was cut, or "" where no loss was seen.

    An answer was cut if a decoded text continues it with more words, and no decoded text equals it.

    Args:
        answers: What the model class returned.
        decoded: What tokenizers decoded meanwhile.
        stops: The known stop strings.

    Returns:
        For each answer one of ``stops``, else the text that follows it, at most 12 characters.
    """
    texts = [
        _END.split(
            _LEADING.sub("", text, count=1) if _starts_with_mark(text) else text, maxsplit=1
        )[0]
        for text in decoded
    ]
    whole = {text.strip() for text in texts}
    found = []
    for answer in answers:
        kept = answer.strip()
        longer = (
            []
            if kept in whole and kept
            else [text for text in texts if _goes_on(kept, text, stops)]
        )
        found.append(_stop(kept, max(longer, key=len), stops) if longer else "")
    return found


def _starts_with_mark(text: str) -> bool:
    return re.match(rf"\s*{_MARK}", text) is not None


def _goes_on(kept: str, text: str, stops: Sequence[str]) -> bool:
    """Whether ``text`` continues the answer ``kept`` with more words.

    An empty answer is continued by a text that begins with a stop string and contains words.
    """
    if not kept:
        return (
            any(text.strip(" ").startswith(stop) for stop in stops)
            and re.search(r"\w", text) is not None
        )
    start = text.lstrip()
    return start.startswith(kept) and re.search(r"\w", start[len(kept) :]) is not None


def _stop(kept: str, text: str, stops: Sequence[str]) -> str:
    """The stop string with which the rest of ``text`` after ``kept`` begins."""
    rest = text.lstrip()[len(kept) :] if kept else text
    known = next(
        (stop for stop in stops if rest.lstrip(" ").startswith(stop) or rest.startswith(stop)), ""
    )
    return known or (_NEXT.match(rest) or [""])[0]
