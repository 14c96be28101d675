"""Requests to one OpenAI-compatible server, and what its replies mean."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from ...core.errors import EasiError, ServersGone
from ...core.server_urls import on_this_machine
from ..generation import Generation
from .replies import Refused, ServerBusy, ServerDown, generation, reason, shown, words

CONNECT_SECONDS = 10.0
# Servers close idle connections, some after two seconds; a question on one just closed is lost.
IDLE_SECONDS = 1.0
LARGEST_REPLY = 1 << 24  # bytes
KEY = "OPENAI_API_KEY"
# Names in the header ``Server`` that are a web server's or a proxy's, not an engine's.
_WEB_SERVER = re.compile(
    "aiohttp|apache|basehttp|caddy|cloudflare|cowboy|daphne|envoy|granian|gunicorn|haproxy|"
    "hypercorn|istio-envoy|jetty|kestrel|litespeed|microsoft-iis|nginx|openresty|python|tengine|"
    "tornadoserver|twistedweb|uvicorn|waitress|werkzeug",
    re.IGNORECASE,
)
_PRODUCT = re.compile(r"([A-Za-z][\w.-]*)/(\d+\.\d[\w.+-]*)")


class HttpServer:
    """One server; several threads may use it.

    Args:
        url: Its base URL.
        timeout: Seconds without a reply after which a question is given up.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self._timeout, self._connect = url, timeout, min(timeout, CONNECT_SECONDS)
        parts = urlsplit(url)
        self._root = urlunsplit(parts._replace(path=parts.path.removesuffix("/v1")))
        try:
            self._http = httpx.Client(
                headers=_authorization(),
                limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
                verify=parts.scheme == "https",  # loading certificates takes a while
                trust_env=not on_this_machine(url),  # a proxy never leads to this machine
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise EasiError(
                f"the proxy of the environment cannot be used for {url}: {reason(error)}",
                hint=f"name {parts.hostname} in NO_PROXY, or correct HTTP_PROXY and the other "
                f"proxy variables",
            ) from error

    def models(self) -> dict[str, str]:
        """Return the names of the served models, each with whom the server calls its owner.

        Raises:
            ServerDown: There is no list of models at this address.
            ServersGone: The server refuses the key.
            ServerBusy: The server takes no requests now.
            Refused: The server refuses to tell; with its words.
        """
        reply = self._get(f"{self.url}/models")
        self._check_status(reply)
        try:
            found = reply.json()["data"]
            return {str(one["id"]): str(one.get("owned_by") or "") for one in found}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerDown(f"/models does not list models: {words(reply)}") from error

    def engine(self, owner: str) -> dict[str, str]:
        """Return the engine's name and version, from ``/version`` or the header; {} if unknown."""
        try:
            reply = self._get(f"{self._root}/version")
            version = reply.json()["version"] if reply.is_success else ""
        except (ServerDown, Refused, ValueError, KeyError, TypeError):
            return {}
        if version and isinstance(version, str):
            return {owner or "server": version}
        found = _PRODUCT.match(reply.headers.get("Server", ""))
        if found is None or _WEB_SERVER.fullmatch(found[1]):
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
            url = f"{self.url}/chat/completions"
            reply = self._request("POST", url, self._timeout, json=dict(payload))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerDown(reason(error), asked=False) from error
        except httpx.ReadTimeout as error:
            self._check_alive()
            raise TimeoutError(f"no answer of {self.url} in {self._timeout:g} s") from error
        except httpx.RequestError as error:
            raise ServerDown(reason(error)) from error
        self._check_status(reply)
        return generation(reply)

    def _check_status(self, reply: httpx.Response) -> None:
        """Raise what a reply without an answer means; see ``ask``."""
        status, said = reply.status_code, f"the server answered {reply.status_code}: {words(reply)}"
        if status in (401, 403) or (status == 429 and "insufficient_quota" in reply.text):
            raise ServersGone(
                f"{self.url} refuses {KEY} ({said})", hint=f"set {KEY} to a valid key"
            )
        if status in (429, 503):
            raise ServerBusy(said, _seconds(reply.headers.get("Retry-After", "")))
        if reply.has_redirect_location:
            said += f" (it sends to {shown(reply.headers['Location'])})"
        # Another model is served here now, or nothing is.
        if status in (404, 502) or reply.has_redirect_location:
            raise ServerDown(said)
        if status in (408, 504):
            raise TimeoutError(said)
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
            return self._request("GET", url, self._connect)
        except httpx.RequestError as error:
            raise ServerDown(reason(error)) from error

    def _request(self, method: str, url: str, seconds: float, **content: Any) -> httpx.Response:
        """Return the whole reply to a request.

        Raises:
            httpx.RequestError: There is none, or not all of it in so many seconds.
            Refused: It is too large.
        """
        until, body = time.monotonic() + seconds, bytearray()
        limits = httpx.Timeout(seconds, connect=self._connect)
        with self._http.stream(method, url, timeout=limits, **content) as reply:
            for piece in reply.iter_raw():
                body += piece
                if len(body) > LARGEST_REPLY:
                    raise Refused(f"{url} sends more than {LARGEST_REPLY:,} bytes")
                if time.monotonic() > until:  # the client's own limit is one for each piece
                    raise httpx.ReadTimeout("timed out")
            return httpx.Response(reply.status_code, headers=reply.headers, content=bytes(body))


def _authorization() -> dict[str, str]:
    key = os.environ.get(KEY, "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise EasiError(
            f"{KEY} holds blanks, line breaks or other characters that no key has",
            hint=f"set {KEY} to the server's key alone, or to nothing",
        )
    return {"Authorization": f"Bearer {key}"}


def _seconds(text: str) -> float | None:
    return float(text) if text.strip().isdecimal() else None
