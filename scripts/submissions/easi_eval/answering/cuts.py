"""Answers of which a model class kept the beginning only: what the tokenizer decoded is held against what the class returned."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

# What ends a model's turn, and may stand in a decoded text: nothing after it was meant.
_MARK = (
    r"(?:<\|[^|<>]*\|>|</?s>|<end_of_\w+>|<(?:eos|bos|pad)>|\[UNUSED_TOKEN_\d+\]|\|ENDOFTEXT\||###)"
)
_LEADING = re.compile(rf"(?:\s|{_MARK})*")
_END = re.compile(_MARK)
_NEXT = re.compile(r"\s+|\S{1,12}")


class Decoded:
    """Notes the texts that tokenizers decode in this thread, in this process from now on."""

    def __init__(self) -> None:
        from transformers import PreTrainedTokenizerBase

        self._texts: list[str] = []
        thread, decode = threading.get_ident(), PreTrainedTokenizerBase.decode

        def watched(tokenizer: Any, *args: Any, **options: Any) -> Any:
            decoded = decode(tokenizer, *args, **options)
            if threading.get_ident() == thread:
                # transformers 5 decodes batches so, too
                self._texts += (
                    [decoded]
                    if isinstance(decoded, str)
                    else [text for text in decoded if isinstance(text, str)]
                )
            return decoded

        PreTrainedTokenizerBase.decode = watched

    def forget(self) -> None:
        """The model is asked something new."""
        self._texts.clear()

    def cuts(self, answers: Sequence[str], stops: Sequence[str] = ()) -> list[str]:
        """As the function of that name, of what was decoded since the last ``forget``."""
        return cuts(answers, self._texts, stops)


def cuts(answers: Sequence[str], decoded: Sequence[str], stops: Sequence[str] = ()) -> list[str]:
    """The stop string at which each answer was cut: one of ``stops``, else what came next; "" where nothing was seen to be lost.

    An answer was cut if more words of the same text were decoded, and it was not decoded as it is.
    """
    texts = [
        _END.split(
            text[_LEADING.match(text).end() :] if _starts_with_mark(text) else text, maxsplit=1
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
    """Whether ``text`` begins with the answer ``kept`` and has words after it; of nothing, whether it begins with a stop string."""
    if not kept:
        return (
            any(text.strip(" ").startswith(stop) for stop in stops)
            and re.search(r"\w", text) is not None
        )
    start = text.lstrip()
    return start.startswith(kept) and re.search(r"\w", start[len(kept) :]) is not None


def _stop(kept: str, text: str, stops: Sequence[str]) -> str:
    rest = text.lstrip()[len(kept) :] if kept else text
    known = next(
        (stop for stop in stops if rest.lstrip(" ").startswith(stop) or rest.startswith(stop)), ""
    )
    return known or (_NEXT.match(rest) or [""])[0]
