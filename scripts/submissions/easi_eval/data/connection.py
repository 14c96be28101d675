"""Refuse network settings with which no request can succeed, before any request is made.

The module imports nothing that is slow to load.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..core.errors import EasiError
from .needs import DEFAULT_ENDPOINT, HubSettings

SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


def refuse_unusable(settings: HubSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a token, an address or a proxy with which no request can succeed.

    Raises:
        EasiError: One of the settings cannot work; the message names it.
    """
    if settings.token:
        refuse_bad_token(settings.token)
    if not settings.offline:
        refuse_bad_address(settings.endpoint)
        refuse_bad_proxy(settings.endpoint, environ)


def refuse_bad_token(token: str) -> None:
    """Refuse a token that cannot be part of an HTTP header.

    Raises:
        EasiError: The token cannot work. The message does not contain the token.
    """
    if not token.isascii() or not token.isprintable() or " " in token:
        raise EasiError(
            "HF_TOKEN is not a token: it has spaces, control characters or letters outside ASCII",
            hint="copy the token from https://huggingface.co/settings/tokens; without HF_TOKEN the "
            "stored login is used",
        )
    if token[0] in "\"'" or token[-1] in "\"'":
        raise EasiError(
            "HF_TOKEN is not a token: it has quotation marks around it",
            hint="write it without them",
        )


def refuse_bad_address(endpoint: str) -> None:
    """Refuse an ``HF_ENDPOINT`` that is no http or https address.

    Raises:
        EasiError: The address cannot work.
    """
    try:
        parts = urlsplit(endpoint)
        wrong = "" if parts.port != 0 else "it has port 0"
    except ValueError as error:
        raise EasiError(
            f"HF_ENDPOINT is not an address: {error}", hint=f"for example {DEFAULT_ENDPOINT}"
        ) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # urlsplit takes "host:8080" for a scheme and a path.
        wrong = "it does not begin with https:// or http://"
    elif any(char.isspace() for char in endpoint):
        wrong = "it has spaces"
    if wrong:
        raise EasiError(
            f"HF_ENDPOINT is {endpoint!r}: {wrong}", hint=f"for example {DEFAULT_ENDPOINT}"
        )


def refuse_bad_proxy(url: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse the proxy that the environment names for ``url`` if it cannot work.

    Raises:
        EasiError: The proxy is no address, or it is a SOCKS proxy and PySocks is not installed.
    """
    name, proxy = _proxy(url, environ)
    if not proxy:
        return
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        address = False
    if not address:
        raise EasiError(
            f"{name} is not the address of a proxy", hint="write http://host:port, or unset it"
        )
    if parts.scheme in SOCKS and importlib.util.find_spec("socks") is None:
        raise EasiError(
            f"{name} is a SOCKS proxy, for which the package PySocks is not installed",
            hint=f"python -m pip install 'requests[socks]', or unset {name}, or name an HTTP proxy",
        )


def _proxy(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the proxy variable that applies to ``url`` and its value, or two empty strings."""
    for plain in (f"{urlsplit(url).scheme}_proxy", "all_proxy"):
        for name in (plain, plain.upper()):
            if proxy := environ.get(name, "").strip():
                from requests.utils import should_bypass_proxies

                return ("", "") if should_bypass_proxies(url, None) else (name, proxy)
    return "", ""
