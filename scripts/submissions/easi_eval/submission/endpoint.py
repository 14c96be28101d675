"""Where a submission goes and what may be sent there: facts of the leaderboard, checked before any work. Quick to import."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..data.connection import refuse_bad_proxy, refuse_bad_token
from ..errors import EasiError

DEFAULT_URL = "https://easi.lmms-lab.com/api/submit-with-file/"
VARIABLE = "EASI_SUBMIT_URL"
LEADERBOARD = "https://easi.lmms-lab.com/"
LIMIT = 4_500_000  # bytes of the whole request body
FORM_LIMIT = 20 * 10**6  # bytes of an archive on the web form
FORM_UNPACKED = 100 * 2**20  # ... and of its members together, once unpacked
CONTACT = "easi-lmms-lab@outlook.com"
LOOK_FIRST = f"people review submissions before they are shown: wait, or ask {CONTACT} whether it arrived, before --resubmit"
_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """The address to POST to. Raises EasiError for one that is no address or would carry the token in the clear."""
    url = environ.get("EASI_SUBMIT_URL", "").strip() or DEFAULT_URL
    example = f"for example {DEFAULT_URL}, which is used when it is not set"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise EasiError(f"{VARIABLE} is no address: {error}", hint=example) from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise EasiError(f"{VARIABLE} is no http(s) address", hint=example)
    if parts.username is not None:
        raise EasiError(
            f"{VARIABLE} holds a user name or password",
            hint="leave them out: the board knows you by the token",
        )
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        raise EasiError(
            f"{VARIABLE} is http, and everybody on the way to {parts.hostname} could read the token",
            hint="use https",
        )
    refuse_bad_proxy(url, environ)
    return url


def host_of(url: str) -> str:
    """Host and port, one spelling for each: what the record calls a board."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def check_token(token: str | None) -> str:
    """The token, if it can stand in a header. Raises EasiError, which does not show it."""
    if not token:
        raise EasiError(
            "--submit needs HF_TOKEN",
            hint="export HF_TOKEN=hf_..., write that line into .env, or log in with: hf auth login",
        )
    refuse_bad_token(token)
    return token


def by_hand(results: Path, archive: Path) -> str:
    """The guide's way for what cannot be sent from here; the web form, too, takes archives up to a size."""
    if too_large := _over_form_limits(archive):
        return f"email {results} and {archive} to {CONTACT}: the web form at {LEADERBOARD}submit/ takes no archive {too_large}"
    return f"upload {results} and {archive} at {LEADERBOARD}submit/, or email both to {CONTACT}"


def _over_form_limits(archive: Path) -> str:
    try:
        with zipfile.ZipFile(archive) as zipped:
            unpacked = sum(member.file_size for member in zipped.infolist())
        if archive.stat().st_size > FORM_LIMIT:
            return f"above {FORM_LIMIT // 10**6} MB"
    except (OSError, zipfile.BadZipFile):
        return ""
    return (
        f"that unpacks to more than {FORM_UNPACKED // 2**20} MiB"
        if unpacked > FORM_UNPACKED
        else ""
    )
