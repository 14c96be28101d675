"""Send one submission over HTTP: the request, repeated attempts, and what each outcome proves.

An attempt is repeated only if the leaderboard cannot have recorded the submission: nothing of the
body was sent (no route, connection refused, name not resolved, TLS error), or it answered 429 or
503. Once the body is being sent, only the leaderboard's own answer is conclusive: a lost
connection, a time-out or any other 5xx may follow after it has recorded everything.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.filepost import encode_multipart_formdata

from .. import __version__
from ..core.errors import EasiError, ExitCode
from ..core.redact import Redactor
from .endpoint import (
    CONTACT,
    LEADERBOARD,
    LIMIT,
    LOOK_FIRST,
    VARIABLE,
    by_hand,
    check_token,
    host_of,
)
from .payload import payload_text, to_send

SHOWN = 200  # characters of a reply that are shown
REPLY_LIMIT = 1 << 16  # bytes; the rest of a reply is not read
# In answer to a POST these two may mean "done, see there" as well as "not here".
_DONE_ELSEWHERE = (302, 303)


class NotTaken(EasiError):
    """The leaderboard has not recorded the submission; it may be sent again."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.NOT_SENT)


class Unknown(EasiError):
    """It is unknown whether the leaderboard has recorded the submission."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}; whether the board has recorded the submission is unknown",
            LOOK_FIRST,
            ExitCode.NOT_SENT,
        )


class _Later(NotTaken):
    """Not recorded, and worth another attempt.

    ``after`` is the time in seconds that the leaderboard asks to wait, None if it does not say.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message, "nothing was recorded; try again later with the same command")
        self.after = after


@dataclass(frozen=True)
class Patience:
    """Time limits of sending, in seconds.

    Attributes:
        connect: To connect.
        answer: For each wait for data after the request was sent, and for reading the whole answer.
        waits: Pauses before the second attempt, the third, and so on.
        longest: The longest pause that the leaderboard may ask for; if it asks for more, sending
            ends.
    """

    connect: float = 30.0
    answer: float = 120.0
    waits: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)  # before the second try, the third ...
    longest: float = 300.0


@dataclass(frozen=True)
class Sent:
    """The leaderboard confirmed the submission; ``said`` is its message."""

    host: str
    said: str


@dataclass
class Parcel:
    """The request, built once.

    Attributes:
        url: The address.
        payload: The payload as in ``easi_results.json``.
        archive: The bytes of the archive.
        paths: The files of payload and archive, for instructions to upload them by hand.
        text: The payload as sent.
        body: The body of the request.
        content_type: Its content type.
        in_doubt: Whether part of the body has been sent and no answer tells what became of it.

    Raises:
        NotTaken: The request is larger than the leaderboard accepts.
    """

    url: str
    payload: Mapping[str, Any]
    archive: bytes
    paths: tuple[Path, Path] = (Path("easi_results.json"), Path("easi_results.zip"))
    text: str = field(init=False)
    body: bytes = field(init=False, repr=False)
    content_type: str = field(init=False)
    in_doubt: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.text = payload_text(to_send(self.payload))
        # A boundary made from the contents makes the request reproducible, so that a dry run
        # describes the very request that would be sent.
        boundary = hashlib.sha256(
            self.payload_digest.encode() + self.archive_digest.encode()
        ).hexdigest()[:32]
        self.body, self.content_type = _form(self.text, self.paths[1].name, self.archive, boundary)
        if len(self.body) > LIMIT:
            raise NotTaken(
                f"the submission has {len(self.body):,} bytes, and the board takes {LIMIT:,}",
                hint=by_hand(*self.paths),
            )

    @property
    def host(self) -> str:
        """Host and port of the leaderboard."""
        return host_of(self.url)

    @property
    def payload_digest(self) -> str:
        """The SHA-256 digest of the payload as sent, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def archive_digest(self) -> str:
        """The SHA-256 digest of the archive, in hexadecimal."""
        return hashlib.sha256(self.archive).hexdigest()

    def headers(self) -> dict[str, str]:
        """Return all headers that this program sets, except the token and the length."""
        return {
            "Content-Type": self.content_type,
            "Accept": "application/json",
            "User-Agent": f"easi-eval/{__version__}",
        }

    def describe(self) -> str:
        """Return the request as text for users, with a placeholder for the token."""
        headers = {
            "Authorization": "Bearer [your token]",
            **self.headers(),
            "Content-Length": str(len(self.body)),
        }
        return "\n".join(
            (
                f"POST {self.url}",
                *(f"{name}: {value}" for name, value in headers.items()),
                "",
                (
                    f"zipFile: {self.paths[1].name}, application/zip, {len(self.archive)} bytes, "
                    f"sha256 {self.archive_digest}"
                ),
                f"payload: {self.text.rstrip()}",
            )
        )


def room_for(payload: Mapping[str, Any]) -> Callable[[int], bool]:
    """Return a function that tells whether an archive of a given size fits into one request.

    Args:
        payload: The payload that is sent with the archive.
    """
    empty, _ = _form(payload_text(to_send(payload)), "easi_results.zip", b"", "0" * 32)
    return lambda size: len(empty) + size <= LIMIT


def _form(text: str, name: str, archive: bytes, boundary: str) -> tuple[bytes, str]:
    """Return the body and the content type of the request."""
    return encode_multipart_formdata(
        [("payload", text), ("zipFile", (name, archive, "application/zip"))], boundary
    )


def send(
    parcel: Parcel,
    token: str | None,
    patience: Patience = Patience(),
    say: Callable[[str], None] = print,
) -> Sent:
    """Send the submission; it is recorded at most once.

    After any exception, including KeyboardInterrupt, ``parcel.in_doubt`` tells whether the
    leaderboard may have recorded it.

    Args:
        parcel: The request.
        token: The Hugging Face token.
        patience: Time limits.
        say: Called with a message before each further attempt.

    Raises:
        NotTaken: The leaderboard has not recorded it.
        Unknown: It is unknown whether the leaderboard has recorded it.
        EasiError: The token is missing or cannot be used in a header.
    """
    token = check_token(token)
    for pause in patience.waits:
        try:
            return _try(parcel, token, patience)
        except _Later as later:
            if later.after is not None and later.after > patience.longest:
                raise NotTaken(
                    later.message,
                    hint=f"nothing was recorded; the board asks for {later.after:.0f} s of "
                    "patience "
                    f"({math.ceil(later.after / 60)} minutes)",
                ) from later
            pause = pause if later.after is None else later.after
            say(f"{later.message}; nothing was recorded, trying again in {pause:.0f} s")
            time.sleep(pause)
    return _try(parcel, token, patience)


def _try(parcel: Parcel, token: str, patience: Patience) -> Sent:
    redactor = Redactor([token])
    parcel.in_doubt = False
    try:
        with (
            requests.Session() as session,
            session.post(
                parcel.url,
                data=_Body(parcel),
                headers=parcel.headers(),
                auth=_Bearer(token),
                timeout=(patience.connect, patience.answer),
                allow_redirects=False,
                stream=True,
            ) as reply,
        ):
            return _judge(parcel.host, reply, _text(reply, patience.answer), redactor)
    except EasiError as error:
        parcel.in_doubt = isinstance(error, Unknown)
        raise
    except (OSError, HTTPError, ValueError) as error:  # requests' own exceptions are OSErrors
        raise _lost(parcel, error, redactor) from error


class _Body(io.BytesIO):
    """The body of the request; notes when it is first read.

    It is first read after the connection is established and the headers are sent.
    """

    def __init__(self, parcel: Parcel) -> None:
        super().__init__(parcel.body)
        self._parcel = parcel

    def read(self, size: int | None = -1, /) -> bytes:
        self._parcel.in_doubt = True
        return super().read(size)


class _Bearer(AuthBase):
    """Sets the token as an auth object.

    A plain header would be overridden by an entry for the host in ``.netrc``.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _text(reply: requests.Response, patience: float) -> str:
    """Return the text of the reply, up to a size and a time limit.

    A reply that is cut off is returned as far as it arrived, because its status is valid all the
    same.
    """
    deadline, arrived = time.monotonic() + patience, bytearray()
    try:
        # Read single bytes: with larger pieces iter_content would wait until each piece is full.
        for byte in reply.iter_content(1):
            arrived += byte
            if len(arrived) >= REPLY_LIMIT or time.monotonic() > deadline:
                break
    except (OSError, HTTPError):
        arrived += b" (the reply was cut off here)"
    return arrived.decode("utf-8", errors="replace")


def _judge(host: str, reply: requests.Response, text: str, redactor: Redactor) -> Sent:
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
                    hint="nothing was recorded; the board takes five tries of a user in two hours "
                    "(120 minutes), "
                    "refused ones too: wait, then the same command",
                )
        raise _Later(message, after)
    if 200 <= status < 300:
        if answer is None or "success" not in answer:
            raise Unknown(
                f"{message} (this is not the answer that the board is documented to give)"
            )
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
        raise Unknown(message)
    raise NotTaken(
        message,
        hint=_HINTS.get(status, "correct what it says, then send again with the same command"),
    )


_HINTS = {
    **dict.fromkeys((401, 403), "is the token valid? https://huggingface.co/settings/tokens"),
    **dict.fromkeys(
        (300, 301, 304, 305, 307, 308), f"if that is the board's new address, set {VARIABLE} to it"
    ),
    404: f"is {VARIABLE} right?",
    409: f"it may be under review, which is not shown: ask {CONTACT}",
    413: f"upload both files at {LEADERBOARD}submit/",
}


def _lost(parcel: Parcel, error: Exception, redactor: Redactor) -> EasiError:
    """Return the error for an attempt that ended without an answer."""
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    why = shown(getattr(root, "strerror", None) or str(root) or type(root).__name__, redactor)
    if parcel.in_doubt:
        return Unknown(f"{parcel.host} was sent the submission and gave no answer ({why})")
    message = f"{parcel.host} cannot be reached ({why})"
    if isinstance(root, ssl.SSLCertVerificationError):
        return NotTaken(
            message,
            hint="nothing was sent; certificates of your own network go into "
            "REQUESTS_CA_BUNDLE=/path/to/bundle.pem",
        )
    if isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return _Later(message)
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
