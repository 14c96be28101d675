"""Where submissions go and what may be sent there; checked before any work.

The constants are facts about the leaderboard. This module is quick to import.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..core.errors import EasiError, ExitCode
from ..data.connection import refuse_bad_proxy, refuse_bad_token

DEFAULT_URL = "https://easi.lmms-lab.com/api/submit-with-file/"
VARIABLE = "EASI_SUBMIT_URL"
LEADERBOARD = "https://easi.lmms-lab.com/"
LIMIT = 4_500_000  # bytes of the whole request body
FORM_LIMIT = 20 * 10**6  # bytes of an archive that is uploaded on the web form
FORM_UNPACKED = 100 * 2**20  # bytes of all its members, unpacked
CONTACT = "easi-lmms-lab@outlook.com"
LOOK_FIRST = (
    f"people review submissions before they are shown: wait, or ask {CONTACT} whether it arrived, "
    "before --resubmit"
)
_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class NotTaken(EasiError):
    """The leaderboard has not recorded the submission; it may be sent again."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.NOT_SENT)


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Return the address for POST requests.

    Raises:
        EasiError: EASI_SUBMIT_URL is not a valid address, or would send the token unencrypted.
    """
    url = environ.get("EASI_SUBMIT_URL", "").strip() or DEFAULT_URL
    example = f"for example {DEFAULT_URL}, which is used when it is not set"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise EasiError(f"{VARIABLE} is not an address: {error}", hint=example) from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise EasiError(f"{VARIABLE} is not an http(s) address", hint=example)
    if parts.username is not None:
        raise EasiError(
            f"{VARIABLE} holds a user name or password",
            hint="leave them out: the token identifies you",
        )
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        raise EasiError(
            f"{VARIABLE} is http, and others on the network to {parts.hostname} could read the "
            f"token",
            hint="use https",
        )
    refuse_bad_proxy(url, environ)
    return url


def host_of(url: str) -> str:
    """Return host and port, always spelt the same way; the record identifies leaderboards by it."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def check_token(token: str | None) -> str:
    """Return the token.

    Raises:
        EasiError: There is no token, or it cannot be one. The message does not show it.
    """
    if not token:
        raise EasiError(
            "--submit needs HF_TOKEN",
            hint="export HF_TOKEN=hf_..., write that line into .env, or log in with: hf auth login",
        )
    refuse_bad_token(token)
    # The hub takes others; the leaderboard counts a try.
    if not re.match(r"hf_\w", token):
        raise EasiError(
            "HF_TOKEN is not a token: it does not begin with hf_ and a letter",
            hint="copy the token from https://huggingface.co/settings/tokens; without HF_TOKEN the "
            "stored login is used",
        )
    return token


def by_hand(results: Path, archive: Path) -> str:
    """Return instructions for submitting by hand what cannot be sent from here.

    The web form has a size limit, too; above it, the files have to be emailed.
    """
    if too_large := _over_form_limits(archive):
        return (
            f"email {results} and {archive} to {CONTACT}: "
            f"the web form at {LEADERBOARD}submit/ takes no archive {too_large}"
        )
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
