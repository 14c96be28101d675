"""Where a judge is asked, and whether it answers there: one question before any GPU is used."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ..errors import EasiError
from ..redact import Redactor
from . import RULES

OFFICIAL = "https://api.openai.com/v1/chat/completions"
SUFFIX = "/chat/completions"
TIMEOUT_VARIABLE = "EASI_JUDGE_TIMEOUT"  # seconds for one question to a judge
PROBE_SECONDS = 30.0
NO_JUDGE = f"or use --judge {RULES}, which asks nobody"


@dataclass(frozen=True)
class Endpoint:
    """``url``: the full address that is POSTed to; ``key``: never to be shown."""

    url: str
    key: str

    @property
    def shown(self) -> str:
        """For people: without user, password and query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def normalise(base: str) -> str:
    """The full ``.../chat/completions`` of OPENAI_API_BASE, which may also be the base that other clients take.

    Raises EasiError for what is no http(s) address.
    """
    base = base.strip()
    if base in ("", "OFFICIAL"):  # the package's own word for it
        return OFFICIAL
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EasiError(
            "OPENAI_API_BASE is no http(s) address",
            hint=f"for example {OFFICIAL.removesuffix(SUFFIX)}, {NO_JUDGE}",
        )
    path = parts.path.rstrip("/")
    if not path.endswith(SUFFIX):
        path = (path or "/v1") + SUFFIX
    return urlunsplit(parts._replace(path=path))


def endpoint(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Raises EasiError if there is no key, or no usable address."""
    key = environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        raise EasiError(
            "a judge needs OPENAI_API_KEY; without it VLMEvalKit would silently score by rules",
            hint=f"set OPENAI_API_KEY and OPENAI_API_BASE in the environment or in .env, {NO_JUDGE}",
        )
    return Endpoint(normalise(environ.get("OPENAI_API_BASE", "")), key)


def seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How long one question to a judge may take; None if nobody said."""
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
    """The model that a judge's name stands for in the package at ``package``, read without importing it.

    The names are the literal dictionary ``model_map`` of ``dataset/utils/judge_util.py``; others are passed on as they are.
    """
    try:
        tree = ast.parse(
            (package / "dataset" / "utils" / "judge_util.py").read_text(encoding="utf-8")
        )
    except (OSError, SyntaxError, ValueError):  # a fork that has it elsewhere
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
    """Ask the judge for a word. Raises EasiError that says what to set if it cannot be used; a busy one (429) can."""
    import requests

    name = f"the judge {model} at {where.shown}"
    address = f"set OPENAI_API_BASE to where the judge is, {NO_JUDGE}"
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
        raise EasiError(f"{name} answers, but with no chat completion", hint=address)


def is_completion(reply: object) -> bool:
    """Whether a reply (of requests) holds a message, be its text empty."""
    try:
        return isinstance(reply.json()["choices"][0]["message"], dict)  # type: ignore[attr-defined]
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
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
