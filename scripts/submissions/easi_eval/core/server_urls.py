"""Addresses of OpenAI-compatible servers, as ``--base-url`` takes them."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from .errors import EasiError

OPTION = "--base-url"
EXAMPLE = "write http://HOST:PORT/v1, and commas between several"
QUESTIONS = "/chat/completions"


def server_urls(text: str) -> tuple[str, ...]:
    """Return the base URLs in ``text``, each without a slash at its end.

    ``/v1`` is added to an address without a path, and ``/chat/completions`` is taken off.

    Raises:
        EasiError: An address is no http(s) URL, is given twice, or holds a password or a query.
    """
    urls = [_normal(part.strip()) for part in text.split(",") if part.strip()]
    if not urls:
        raise EasiError(f"{OPTION} is empty", hint=EXAMPLE)
    if twice := next((url for url in urls if urls.count(url) > 1), ""):
        raise EasiError(f"{OPTION} names {twice} twice", hint="name each server once")
    return tuple(urls)


def on_this_machine(url: str) -> bool:
    """Return whether an address is one of this machine alone (localhost, 127.0.0.1)."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _normal(text: str) -> str:
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise EasiError(
            f"{OPTION} holds a user name or password, and commands are recorded and shared",
            hint="leave it out; the server's key is read from OPENAI_API_KEY",
        )
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        usable = False
    if not usable or any(char.isspace() for char in text):
        raise EasiError(f"{OPTION} is {text!r}, not an http(s) address", hint=EXAMPLE)
    if parts.query or parts.fragment:
        raise EasiError(f"{OPTION} is {text!r}, with more than a path", hint=EXAMPLE)
    path = parts.path.rstrip("/").removesuffix(QUESTIONS)
    return urlunsplit(parts._replace(path=path or "/v1"))
