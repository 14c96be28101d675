"""What a model class of lmms-eval returned, as generations of our own type."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from easi_eval.engine.generation import Generation
from easi_eval.engine.vlm.cuts import Decoded

# Beginnings of the texts that classes of served models return when every retry failed, and for
# questions that they did not send because the tokens of --max_tokens are used up
# (lmms_eval/models/chat/openai.py).
NO_ANSWER = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")


def generation(request: Any, output: Any, padded: bool) -> Generation | Exception:
    """Return the class's output for one request as our own type.

    Args:
        request: lmms-eval's request.
        output: What the class returned for it.
        padded: Whether the token count may be that of the longest answer of the batch. If so, a
            count at the limit does not show that this answer was cut off.

    Returns:
        A ConnectionError if the server never answered or was not asked.
    """
    from lmms_eval.api.instance import unwrap_generation_output

    text, counts = unwrap_generation_output(output)
    if text is None:  # lmms-eval takes it for an empty answer
        text = ""
    if isinstance(text, str) and text.startswith(NO_ANSWER):
        return ConnectionError(text)
    prompt = request.args[0] if isinstance(request.args[0], str) else ""
    options = next((arg for arg in request.args if isinstance(arg, dict)), {})
    tokens = counts.output_tokens if counts is not None else None
    limit = options.get("max_new_tokens")
    finish = None
    if tokens is not None and isinstance(limit, int) and (tokens < limit or not padded):
        # An answer that ends exactly at the limit counts as cut off.
        finish = "length" if tokens >= limit else "stop"
    return Generation(
        text, tokens=tokens, finish=finish, prompt=hashlib.sha256(prompt.encode()).hexdigest()[:16]
    )


def equally_long(outputs: Sequence[Any]) -> bool:
    """Return whether all outputs report the same number of tokens.

    Classes that pad a batch report the length of its longest answer for each.
    """
    from lmms_eval.api.instance import unwrap_generation_output

    counts = [
        counted.output_tokens if counted else None
        for _, counted in map(unwrap_generation_output, outputs)
    ]
    return len(set(counts)) == 1


def stop_strings(request: Any) -> Sequence[str]:
    """Return the stop strings that the task gives to the class."""
    until = next((arg for arg in request.args if isinstance(arg, dict)), {}).get("until")
    return [
        stop
        for stop in ([until] if isinstance(until, str) else until or [])
        if isinstance(stop, str) and stop
    ]


def with_cuts(
    made: Sequence[Generation | Exception], decoded: Decoded, stops: Sequence[str]
) -> list[Generation | Exception]:
    """Add to each answer the stop string at which it was cut, if the decoded text shows one.

    Args:
        made: Answers in the order of the requests.
        decoded: The texts that tokenizers decoded during the call.
        stops: The task's stop strings.
    """
    texts = [
        one.text if isinstance(one, Generation) and isinstance(one.text, str) else ""
        for one in made
    ]
    return [
        replace(one, cut=cut) if cut and isinstance(one, Generation) else one
        for one, cut in zip(made, decoded.cuts(texts, stops), strict=True)
    ]
