"""What an answer of the leaderboard, or the lack of one, proves about a submission.

It certainly has not recorded it if nothing of the body was sent (no route, connection refused, name
not resolved, TLS error), or if it answered 429 or 503. Once the body is being sent, only its own
answer is conclusive: a lost connection, a time-out or any other 5xx may follow after it has
recorded everything.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from ..core.errors import EasiError, ExitCode
from ..core.redact import Redactor
from .endpoint import CONTACT, LEADERBOARD, LOOK_FIRST, VARIABLE, NotTaken

SHOWN = 200  # characters of a reply that are shown
# In answer to a POST these two may mean "done, see there" as well as "not here".
_DONE_ELSEWHERE = (302, 303)


class OutcomeUnknown(EasiError):
    """It is unknown whether the leaderboard has recorded the submission."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}; it is unknown whether the leaderboard recorded the submission",
            LOOK_FIRST,
            ExitCode.NOT_SENT,
        )


class TryLater(NotTaken):
    """Not recorded, and worth another attempt.

    ``after`` is the time in seconds that the leaderboard asks to wait, None if it does not say.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message, "nothing was recorded; try again later with the same command")
        self.after = after


@dataclass(frozen=True)
class Sent:
    """The leaderboard confirmed the submission; ``said`` is its message."""

    host: str
    said: str


def outcome_of(host: str, reply: requests.Response, text: str, redactor: Redactor) -> Sent:
    """Return Sent for a reply that confirms the submission, else raise what the reply proves."""
    status = reply.status_code
    answer = _json(text)
    words = answer.get("error") or answer.get("message") if answer else None
    said = shown(words if isinstance(words, str) else text, redactor) or "(an empty reply)"
    message = f"{host} answered HTTP {status}: {said}"
    if status in (429, 503):
        after = _seconds(reply.headers.get("Retry-After", ""))
        if status == 429 and after is None:
            after = _said_seconds(said)
            if after is None:  # another attempt would be refused, and would count against the limit
                raise NotTaken(
                    message,
                    hint="nothing was recorded; the leaderboard takes five tries of a user in two "
                    "hours "
                    "(120 minutes), "
                    "refused ones too: wait, then the same command",
                )
        raise TryLater(message, after)
    if 200 <= status < 300:
        if answer is None or "success" not in answer:
            raise OutcomeUnknown(f"{message} (not a documented reply of the leaderboard)")
        if not answer["success"]:
            raise NotTaken(
                message, hint="correct what it says, then send again with the same command"
            )
        return Sent(host, said)
    if 300 <= status < 400:
        message = (
            f"{host} answered HTTP {status}, a redirect to "
            f"{shown(reply.headers.get('Location', 'nowhere'), redactor)}, which is not followed"
        )
    if status >= 500 or status in _DONE_ELSEWHERE:
        raise OutcomeUnknown(message)
    raise NotTaken(
        message,
        hint=_HINTS.get(status, "correct what it says, then send again with the same command"),
    )


_HINTS = {
    **dict.fromkeys((401, 403), "is the token valid? https://huggingface.co/settings/tokens"),
    **dict.fromkeys(
        (300, 301, 304, 305, 307, 308),
        f"if that is the leaderboard's new address, set {VARIABLE} to it",
    ),
    404: f"is {VARIABLE} right?",
    409: f"it may be under review, which is not shown: ask {CONTACT}",
    413: f"upload both files at {LEADERBOARD}submit/",
}


def no_answer(host: str, error: Exception, in_doubt: bool, redactor: Redactor) -> EasiError:
    """Return the error for an attempt that ended without an answer.

    Args:
        host: Host and port of the leaderboard.
        error: What ended it.
        in_doubt: Whether part of the body had been sent.
        redactor: Removes the token from texts.
    """
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    why = shown(getattr(root, "strerror", None) or str(root) or type(root).__name__, redactor)
    if in_doubt:
        return OutcomeUnknown(f"{host} was sent the submission and gave no answer ({why})")
    message = f"{host} cannot be reached ({why})"
    if isinstance(root, ssl.SSLCertVerificationError):
        return NotTaken(
            message,
            hint="nothing was sent; for certificates of your own network set "
            "REQUESTS_CA_BUNDLE=/path/to/bundle.pem",
        )
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return TryLater(message)
    return NotTaken(message, hint=f"nothing was sent; check {VARIABLE} and the proxy settings")


def _json(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def shown(text: str, redactor: Redactor) -> str:
    """Return the beginning of a text from an untrusted source, made safe for a terminal.

    It is one line without control characters and secrets.
    """
    printable = "".join(char if char.isprintable() else " " for char in text)
    # Redact before cutting the text: the redactor does not recognise half of a secret.
    return redactor.line(re.sub(r" +", " ", printable)).strip()[:SHOWN]


def _said_seconds(text: str) -> float | None:
    """Return the time to wait that a reply's text names ("try again in 42 minutes"), in seconds."""
    found = re.search(r"(\d{1,6})\s*(second|minute|hour|s|min|m|h)s?\b", text)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2][0]] if found else None


def _seconds(text: str) -> float | None:
    """Return the value of a Retry-After header (a number or a date) in seconds, else None."""
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(
        0.0,
        (
            (until if until.tzinfo else until.replace(tzinfo=UTC)) - datetime.now(UTC)
        ).total_seconds(),
    )
