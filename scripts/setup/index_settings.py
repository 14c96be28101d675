"""Reads from pip's configuration where packages come from, and passes it on to uv and pip.

uv reads none of pip's configuration. On a machine that reaches its packages through a mirror, a
proxy or a private certificate, uv would fail where pip works. Pure functions, standard library
only.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_UV_INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_NO_INDEX",
)
# Variables that would send packages to another environment or forbid the pinned versions.
_TIED = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "CONDA_DEFAULT_ENV",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_PROJECT_ENVIRONMENT",
        "UV_REQUIRE_HASHES",
        "UV_CONSTRAINT",
        "UV_OVERRIDE",
        "UV_EXCLUDE",
        "UV_EXCLUDE_NEWER",
    }
)
_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})


@dataclass(frozen=True)
class IndexSettings:
    """The part of pip's configuration that decides whether and from where packages are fetched.

    URLs may hold credentials. Never print one, and pass them on in the environment: other users can
    read a command line.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: str | None = None
    retries: str | None = None
    no_index: bool = False
    no_cache: bool = False
    keyring: bool = False


def parse_pip_config(listing: str) -> dict[str, str]:
    """Parse the output of ``pip config list`` into option values as ``pip install`` sees them.

    A line reads ``section.option='value'``, and the value is a Python literal. ``[install]`` wins
    over ``[global]``, and an environment variable (listed under ``:env:``) over both. Other
    sections and unknown forms are skipped.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, sign, literal = line.partition("=")
        section, dot, option = name.strip().partition(".")
        if not sign or not dot or section not in sections:
            continue
        try:
            value = ast.literal_eval(literal.strip())
        except (ValueError, SyntaxError):
            continue
        sections[section][option.lower().replace("_", "-")] = str(value)
    return sections["global"] | sections["install"] | sections[":env:"]


def settings_from_pip(
    options: Mapping[str, str], exists: Callable[[str], bool] = os.path.exists
) -> IndexSettings:
    """Convert pip's options to settings.

    Local folders that do not exist are left out, as pip does and uv does not.
    """

    def first(*names: str) -> str | None:
        return next((options[name] for name in names if options.get(name)), None)

    return IndexSettings(
        index_url=first("index-url", "pypi-url", "i"),
        extra_index_urls=_reachable(first("extra-index-url"), exists),
        find_links=_reachable(first("find-links", "f"), exists),
        trusted_hosts=tuple((first("trusted-host") or "").split()),
        cert=first("cert"),
        client_cert=first("client-cert"),
        proxy=first("proxy"),
        timeout=first("timeout", "default-timeout"),
        retries=first("retries"),
        no_index=_is_true(first("no-index")),
        no_cache=_is_true(first("no-cache-dir")),
        keyring=first("keyring-provider") == "subprocess",
    )


def uv_environment(settings: IndexSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to ``environ`` so that uv fetches as pip would.

    Variables that the user has set for uv itself are kept.
    """
    wanted: dict[str, str | None] = {
        # pip takes the best match over all indexes. By default, uv only looks at the first index
        # that has the name, which fails if a mirror holds other versions. Every hash is pinned, so
        # it does not matter which index a file comes from.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "SSL_CERT_FILE": settings.cert
        or environ.get("REQUESTS_CA_BUNDLE")
        or environ.get("CURL_CA_BUNDLE"),
        "SSL_CLIENT_CERT": settings.client_cert,
        "UV_HTTP_TIMEOUT": _whole_seconds(settings.timeout),
        "UV_HTTP_RETRIES": settings.retries,
        "UV_NO_CACHE": "1" if settings.no_cache else None,
        "UV_KEYRING_PROVIDER": "subprocess" if settings.keyring else None,
    }
    if not any(environ.get(name) for name in _UV_INDEX_VARIABLES):
        wanted |= {
            "UV_INDEX_URL": settings.index_url,
            "UV_EXTRA_INDEX_URL": " ".join(settings.extra_index_urls),
            "UV_NO_INDEX": "1" if settings.no_index else None,
        }
    wanted |= _proxy_variables(settings, environ)
    return {name: value for name, value in wanted.items() if value and not environ.get(name)}


def pip_environment(settings: IndexSettings) -> dict[str, str]:
    """Return the only pip variables of an install into our environment.

    pip's configuration files are read before and then disabled: their ``user``, ``target``,
    ``prefix``, ``constraint`` or ``require-virtualenv`` would send packages elsewhere or refuse the
    pinned versions.
    """
    wanted: dict[str, str | None] = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_INDEX_URL": settings.index_url,
        "PIP_EXTRA_INDEX_URL": " ".join(settings.extra_index_urls),
        "PIP_FIND_LINKS": " ".join(settings.find_links),
        "PIP_TRUSTED_HOST": " ".join(settings.trusted_hosts),
        "PIP_CERT": settings.cert,
        "PIP_CLIENT_CERT": settings.client_cert,
        "PIP_PROXY": settings.proxy,
        "PIP_DEFAULT_TIMEOUT": settings.timeout,
        "PIP_RETRIES": settings.retries,
        "PIP_NO_INDEX": "1" if settings.no_index else None,
        "PIP_NO_CACHE_DIR": "1" if settings.no_cache else None,
        "PIP_KEYRING_PROVIDER": "subprocess" if settings.keyring else None,
    }
    return {name: value for name, value in wanted.items() if value}


def untied(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` without pip's variables and those that name another environment."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _TIED and not name.startswith("PIP_")
    }


def _proxy_variables(settings: IndexSettings, environ: Mapping[str, str]) -> dict[str, str | None]:
    names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
    if any(environ.get(name) or environ.get(name.lower()) for name in names):
        return {}
    return {"HTTPS_PROXY": settings.proxy, "HTTP_PROXY": settings.proxy}


def _reachable(value: str | None, exists: Callable[[str], bool]) -> tuple[str, ...]:
    return tuple(place for place in (value or "").split() if _is_remote_or_exists(place, exists))


def _is_remote_or_exists(place: str, exists: Callable[[str], bool]) -> bool:
    parts = urlsplit(place)
    if parts.scheme == "file":
        return exists(unquote(parts.path))
    if "://" in place:
        return True
    return exists(str(Path(place).expanduser()))


def _whole_seconds(value: str | None) -> str | None:
    try:
        return None if value is None else str(max(1, round(float(value))))
    except ValueError:
        return None


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE
