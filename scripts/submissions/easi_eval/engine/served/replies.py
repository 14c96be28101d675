"""What the replies of OpenAI-compatible servers mean."""

from __future__ import annotations

import httpx

from ...core.redact import Redactor
from ..generation import Generation

LONGEST_WORDS = 400  # characters of a server's own words that are shown


class ServerDown(Exception):
    """The server cannot be reached, or ended while it held the question.

    Attributes:
        asked: Whether the server had the question.
    """

    def __init__(self, words: str, asked: bool = True) -> None:
        super().__init__(words)
        self.asked = asked


class ServerBusy(Exception):
    """The server takes no more questions now; ``seconds`` is when it wants to be asked again."""

    def __init__(self, words: str, seconds: float | None) -> None:
        super().__init__(words)
        self.seconds = seconds


class Refused(RuntimeError):
    """The server refused the question."""


class NoAnswer(RuntimeError):
    """The server answered with no text, or with one that a filter cut."""


def generation(reply: httpx.Response) -> Generation:
    """Return the answer in a reply.

    Raises:
        NoAnswer: It has no text, or one that a filter cut.
        RuntimeError: It is no chat completion.
    """
    try:
        body = reply.json()
        choice = body["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RuntimeError(f"the server sent no chat completion: {words(reply)}") from error
    if not text or not isinstance(text, str) or finish == "content_filter":
        raise NoAnswer(f"the server gave no answer (finish_reason {finish}): {words(reply)}")
    usage = body.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Generation(text, tokens=tokens if isinstance(tokens, int) else None, finish=finish)


def words(reply: httpx.Response) -> str:
    """Return the server's own words in one line, redacted: its error's message, or what it sent."""
    try:
        body = reply.json()
        told = body.get("error", body.get("message", body.get("detail", body)))
        text = str(told["message"] if isinstance(told, dict) and "message" in told else told)
    except (ValueError, AttributeError):
        text = reply.text
    return shown(text) or "nothing"


def reason(error: Exception) -> str:
    """Return in words why there was no reply."""
    text = str(error) or ("no answer in time" if isinstance(error, httpx.TimeoutException) else "")
    return shown(text) or type(error).__name__


def shown(text: str) -> str:
    """Return a text in one line, redacted and not too long."""
    return Redactor.from_environ().line(" ".join(text.split()))[:LONGEST_WORDS]
