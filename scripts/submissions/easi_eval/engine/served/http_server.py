"""Requests to one OpenAI-compatible server, and what its replies mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from ...core.errors import ServersGone
from ...core.redact import Redactor
from ...core.server_urls import on_this_machine
from ..generation import Generation

CONNECT_SECONDS = 10.0
LONGEST_WORDS = 400  # characters of a server's own words that are shown
KEY = "OPENAI_API_KEY"
# Names in the header ``Server`` that are a web server's or a proxy's, not an engine's.
WEB_SERVERS = frozenset(
    {"apache", "caddy", "cloudflare", "envoy", "gunicorn", "hypercorn", "nginx", "uvicorn"}
)
_PRODUCT = re.compile(r"([A-Za-z][\w.-]*)/(\d+\.\d[\w.+-]*)")


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


class HttpServer:
    """One server; several threads may use it.

    Args:
        url: Its base URL.
        timeout: Seconds without a reply after which a question is given up.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self._connect = url, min(timeout, CONNECT_SECONDS)
        parts = urlsplit(url)
        self._root = urlunsplit(parts._replace(path=parts.path.removesuffix("/v1")))
        key = os.environ.get(KEY, "").strip()
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=self._connect),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            verify=parts.scheme == "https",  # loading certificates takes a while
            trust_env=not on_this_machine(url),  # a proxy never leads to this machine
        )

    def models(self) -> dict[str, str]:
        """Return the names of the served models, each with whom the server calls its owner.

        Raises:
            ServerDown: There is no list of models at this address.
        """
        reply = self._get(f"{self.url}/models")
        try:
            found = reply.json()["data"]
            return {str(one["id"]): str(one.get("owned_by") or "") for one in found}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerDown(f"/models is no list of models: {words(reply)}") from error

    def engine(self, owner: str) -> dict[str, str]:
        """Return the engine's name and version, from ``/version`` or the header; {} if unknown."""
        try:
            reply = self._get(f"{self._root}/version")
            version = reply.json()["version"] if reply.is_success else ""
        except (ServerDown, ValueError, KeyError, TypeError):
            return {}
        if version and isinstance(version, str):
            return {owner or "server": version}
        found = _PRODUCT.match(reply.headers.get("Server", ""))
        if found is None or found[1].lower() in WEB_SERVERS:
            return {}
        return {found[1]: found[2]}

    def ask(self, payload: Mapping[str, Any]) -> Generation:
        """Send one question.

        Raises:
            ServerDown: The server is gone; the question may be asked again.
            ServerBusy: The server takes no more questions now.
            TimeoutError: The server is there, and this question got no answer in time.
            NoAnswer: The server gave no text to this question.
            Refused: The server refused this question; with its words.
            ServersGone: The server refuses the key.
        """
        try:
            reply = self._http.post(f"{self.url}/chat/completions", json=dict(payload))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerDown(reason(error), asked=False) from error
        except httpx.ReadTimeout as error:
            self._check_alive()
            raise TimeoutError(f"no answer of {self.url} within the time-out") from error
        except httpx.TransportError as error:
            raise ServerDown(reason(error)) from error
        self._check_status(reply)
        return _generation(reply)

    def _check_status(self, reply: httpx.Response) -> None:
        """Raise what a reply without an answer means; see ``ask``."""
        status, said = reply.status_code, f"the server answered {reply.status_code}: {words(reply)}"
        if status in (401, 403) or (status == 429 and "insufficient_quota" in reply.text):
            raise ServersGone(
                f"{self.url} refuses {KEY} ({said})", hint=f"set {KEY} to a key that it takes"
            )
        if status in (429, 503):
            raise ServerBusy(said, _seconds(reply.headers.get("Retry-After", "")))
        if status in (404, 502):  # another model is served here now, or nothing is
            raise ServerDown(said)
        if status >= 500:
            # An engine that is about to end answers 500 to every question.
            self._check_alive()
        if not reply.is_success:
            raise Refused(said)

    def _check_alive(self) -> None:
        """Raise ServerDown unless the server says that it lives, or has no such page."""
        if (status := self._get(f"{self._root}/health").status_code) >= 500:
            raise ServerDown(f"/health answered {status}")

    def _get(self, url: str) -> httpx.Response:
        try:
            return self._http.get(url, timeout=self._connect)
        except httpx.HTTPError as error:
            raise ServerDown(reason(error), asked=False) from error


def _generation(reply: httpx.Response) -> Generation:
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
    return Redactor.from_environ().line(" ".join(text.split()))[:LONGEST_WORDS] or "nothing"


def reason(error: Exception) -> str:
    """Return in words why there was no reply."""
    text = str(error) or ("no answer in time" if isinstance(error, httpx.TimeoutException) else "")
    return " ".join(text.split())[:LONGEST_WORDS] or type(error).__name__


def _seconds(text: str) -> float | None:
    return float(text) if text.strip().isdecimal() else None
