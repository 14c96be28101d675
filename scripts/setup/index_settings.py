"""Hands pip's settings on to uv, which reads none of them.

On a machine that reaches its packages through a mirror, a proxy or a private certificate, uv would
otherwise fail where pip works. Values may hold credentials: they are never printed, and are passed
in the environment because other users can read a command line.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

UV_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX")
# Variables that would send packages to another environment or forbid the pinned versions.
TIED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
TIED += ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_REQUIRE_HASHES")
TIED += ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_EXCLUDE_NEWER")


def parse_pip_config(listing: str) -> dict[str, str]:
    """Parse the output of ``pip config list`` into option values as ``pip install`` sees them.

    A line reads ``section.option='value'``, and the value is a Python literal. ``[install]`` wins
    over ``[global]``, and an environment variable (listed under ``:env:``) over both.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, literal = line.partition("=")
        section, _, option = name.strip().partition(".")
        if section in sections:
            try:
                value = str(ast.literal_eval(literal.strip()))
            except (ValueError, SyntaxError):
                continue
            sections[section][option.lower().replace("_", "-")] = value
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def uv_variables(
    options: Mapping[str, str],
    environ: Mapping[str, str],
    exists: Callable[[str], bool] = os.path.exists,
) -> dict[str, str]:
    """Return the variables by which uv fetches as pip would with these options.

    Variables that the user has set for uv itself are left out.
    """

    def places(option: str) -> list[str]:
        # pip passes over local folders that do not exist, uv gives up.
        return [place for place in options.get(option, "").split() if _is_there(place, exists)]

    def switch(on: bool, value: str = "1") -> str:
        return value if on else ""

    def is_true(option: str) -> bool:
        return options.get(option, "").strip().lower() in {"1", "true", "yes", "on", "t", "y"}

    wanted = {
        # pip takes the best match over all indexes; uv by default only looks at the first index
        # that has the name. Every hash is pinned, so it does not matter where a file comes from.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": ",".join(places("find-links")),
        "UV_INSECURE_HOST": " ".join(options.get("trusted-host", "").split()),
        "SSL_CERT_FILE": options.get("cert")
        or environ.get("REQUESTS_CA_BUNDLE")
        or environ.get("CURL_CA_BUNDLE", ""),
        "SSL_CLIENT_CERT": options.get("client-cert", ""),
        "UV_HTTP_TIMEOUT": _whole(options.get("timeout") or options.get("default-timeout", "")),
        "UV_HTTP_RETRIES": options.get("retries", ""),
        "UV_NO_CACHE": switch(is_true("no-cache-dir")),
        "UV_KEYRING_PROVIDER": switch(
            options.get("keyring-provider") == "subprocess", "subprocess"
        ),
    }
    if not any(environ.get(name) for name in UV_INDEXES):
        wanted["UV_INDEX_URL"] = options.get("index-url", "")
        wanted["UV_EXTRA_INDEX_URL"] = " ".join(places("extra-index-url"))
        wanted["UV_NO_INDEX"] = switch(is_true("no-index"))
    proxies = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
    if not any(environ.get(name) or environ.get(name.lower()) for name in proxies):
        wanted.update(dict.fromkeys(proxies[:2], options.get("proxy", "")))
    return {name: value for name, value in wanted.items() if value and not environ.get(name)}


def untied(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without the variables that name another environment."""
    return {name: value for name, value in environ.items() if name not in TIED}


def _is_there(place: str, exists: Callable[[str], bool]) -> bool:
    parts = urlsplit(place)
    if parts.scheme == "file":
        return exists(unquote(parts.path))
    return "://" in place or exists(str(Path(place).expanduser()))


def _whole(seconds: str) -> str:
    try:
        return str(max(1, round(float(seconds))))
    except ValueError:
        return ""
