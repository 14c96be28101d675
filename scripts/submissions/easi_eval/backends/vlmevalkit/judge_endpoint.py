"""Find the judge's address and check that it answers, before any GPU is used."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from ...config import RULES
from ...core.errors import EasiError
from ...core.redact import Redactor

if TYPE_CHECKING:
    from requests import Response

OFFICIAL = "https://api.openai.com/v1/chat/completions"
SUFFIX = "/chat/completions"
TIMEOUT_VARIABLE = "EASI_JUDGE_TIMEOUT"  # seconds for one question to a judge
PROBE_SECONDS = 30.0
NO_JUDGE = f"or use --judge {RULES}, which needs no API"


@dataclass(frozen=True)
class Endpoint:
    """Where and how a judge is asked.

    Attributes:
        url: The full address for POST requests.
        key: The API key; it must never be shown.
    """

    url: str
    key: str

    @property
    def shown(self) -> str:
        """The address for users, without user name, password and query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def normalise(base: str) -> str:
    """Return the full ``.../chat/completions`` address for OPENAI_API_BASE.

    The value may be that address or the base URL that other clients use.

    Raises:
        EasiError: The value is not an http(s) address.
    """
    base = base.strip()
    if base in ("", "OFFICIAL"):  # VLMEvalKit's name for OpenAI's own address
        return OFFICIAL
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EasiError(
            "OPENAI_API_BASE is not an http(s) address",
            hint=f"for example {OFFICIAL.removesuffix(SUFFIX)}, {NO_JUDGE}",
        )
    path = parts.path.rstrip("/")
    if not path.endswith(SUFFIX):
        path = (path or "/v1") + SUFFIX
    return urlunsplit(parts._replace(path=path))


def endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Return the judge's endpoint from the environment.

    Raises:
        EasiError: There is no key, or no usable address.
    """
    key = environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise EasiError(
            "a judge needs OPENAI_API_KEY; without it VLMEvalKit would silently score by rules",
            hint="set OPENAI_API_KEY and OPENAI_API_BASE in the environment or in .env, "
            f"{NO_JUDGE}",
        )
    return Endpoint(normalise(environ.get("OPENAI_API_BASE", "")), key)


def seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the time limit for one question to a judge in seconds, None if it is not set.

    Raises:
        EasiError: The variable is not a positive number.
    """
    text = environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        value = float(text) if text else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 < value < 1e6:
        raise EasiError(
            f"{TIMEOUT_VARIABLE} is {text!r}", hint="write a number of seconds, for example 120"
        )
    return value


def model_name(package: Path, judge: str) -> str:
    """Return the model that a judge's name stands for in the VLMEvalKit at ``package``.

    The names are the dictionary ``model_map`` in ``dataset/utils/judge_util.py``, which is read
    without importing the package. A name that is not there is returned unchanged.
    """
    try:
        tree = ast.parse(
            (package / "dataset" / "utils" / "judge_util.py").read_text(encoding="utf-8")
        )
    except (OSError, SyntaxError, ValueError):  # a fork may have the dictionary elsewhere
        return judge
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "model_map" for target in node.targets
        ):
            try:
                return str(ast.literal_eval(node.value).get(judge, judge))
            except ValueError:
                return judge
    return judge


def probe(where: Endpoint, model: str, timeout: float = PROBE_SECONDS) -> None:
    """Send the judge one short question.

    A judge that is only busy (HTTP 429 with quota left) passes.

    Raises:
        EasiError: The judge cannot be used; the hint says what to set.
    """
    import requests

    name = f"the judge {model} at {where.shown}"
    address = f"set OPENAI_API_BASE to the judge's address, {NO_JUDGE}"
    try:
        reply = requests.post(
            where.url,
            headers={"Authorization": f"Bearer {where.key}"},
            timeout=timeout,
            json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
        )
    except requests.Timeout as error:
        raise EasiError(f"{name} does not answer within {timeout:.0f} s", hint=address) from error
    except requests.RequestException as error:
        raise EasiError(f"{name} cannot be reached ({_reason(error)})", hint=address) from error
    status = reply.status_code
    if status == 429 and "insufficient_quota" not in reply.text:
        return
    if status in (401, 403, 429):
        why = "has no quota left for" if status == 429 else "refuses"
        raise EasiError(
            f"{name} {why} OPENAI_API_KEY (HTTP {status})",
            hint=f"set OPENAI_API_KEY to a valid key, {NO_JUDGE}",
        )
    if not reply.ok:
        said = " ".join(Redactor([where.key]).line(reply.text).split())[:200]
        raise EasiError(
            f"{name} answers HTTP {status}: {said}" if said else f"{name} answers HTTP {status}",
            hint=f"check the judge's name (--judge), {address}",
        )
    if not is_completion(reply):
        raise EasiError(f"{name} answers, but not with a chat completion", hint=address)


def is_completion(reply: Response) -> bool:
    """Return whether a reply holds a message, possibly with an empty text."""
    try:
        return isinstance(reply.json()["choices"][0]["message"], dict)
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _reason(error: BaseException) -> str:
    """Return the cause of a connection error in a few words."""
    text = str(error)
    for told in (
        "Connection refused",
        "Name or service not known",
        "No route to host",
        "certificate verify failed",
        "Temporary failure in name resolution",
        "Network is unreachable",
        "Connection reset",
    ):
        if told in text:
            return told.lower() if told[0] in "CN" and told.startswith("Connection") else told
    return type(error).__name__
