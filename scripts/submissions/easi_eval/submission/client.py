"""One submission over HTTP: the request, the tries, and what each end of a try proves.

A try is repeated only where the board cannot have taken it: nothing of the body was sent (no route, refused, no name, TLS), or
it answered 429 or 503. Once the body is on its way only the board's own answer ends the doubt: a lost connection, a
time-out or any other 5xx may come after it has recorded everything.
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
from ..errors import EasiError, ExitCode
from ..redact import Redactor
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

SHOWN = 200  # characters of a reply
REPLY_LIMIT = 1 << 16  # bytes of a reply that are read
# To a POST these two mean "done, look there" as often as "not here".
_DONE_ELSEWHERE = (302, 303)


class NotTaken(EasiError):
    """The board has not taken it: it may be sent again."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitCode.NOT_SENT)


class Unknown(EasiError):
    """Nobody here can know whether the board has taken it."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}; whether the board has recorded the submission is unknown",
            LOOK_FIRST,
            ExitCode.NOT_SENT,
        )


class _Later(NotTaken):
    """Not taken, and worth another try; ``after``: seconds the board asked us to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message, "nothing was recorded; try again later with the same command")
        self.after = after


@dataclass(frozen=True)
class Patience:
    """In seconds. ``answer`` bounds every silence after the request; a board that asks for more than ``longest`` is not waited for."""

    connect: float = 30.0
    answer: float = 120.0
    waits: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)  # before the second try, the third ...
    longest: float = 300.0


@dataclass(frozen=True)
class Sent:
    """The board confirmed it, with these words."""

    host: str
    said: str


@dataclass
class Parcel:
    """The request, made once. ``in_doubt``: some of its body has left, and no answer has said what became of it.

    Raises NotTaken if it is larger than the board takes; ``paths``: the two files, for the way by hand.
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
        # The same contents make the same bytes, so that a dry run shows the request itself.
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
        return host_of(self.url)

    @property
    def payload_digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def archive_digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()

    def headers(self) -> dict[str, str]:
        """All that we set, but for the token and the length."""
        return {
            "Content-Type": self.content_type,
            "Accept": "application/json",
            "User-Agent": f"easi-eval/{__version__}",
        }

    def describe(self) -> str:
        """The request for people; the token's place is marked."""
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
                f"zipFile: {self.paths[1].name}, application/zip, {len(self.archive)} bytes, sha256 {self.archive_digest}",
                f"payload: {self.text.rstrip()}",
            )
        )


def room_for(payload: Mapping[str, Any]) -> Callable[[int], bool]:
    """Whether an archive of so many bytes fits into one request with this payload."""
    empty, _ = _form(payload_text(to_send(payload)), "easi_results.zip", b"", "0" * 32)
    return lambda size: len(empty) + size <= LIMIT


def _form(text: str, name: str, archive: bytes, boundary: str) -> tuple[bytes, str]:
    """Body and content type of the request."""
    return encode_multipart_formdata(
        [("payload", text), ("zipFile", (name, archive, "application/zip"))], boundary
    )


def send(
    parcel: Parcel,
    token: str | None,
    patience: Patience = Patience(),
    say: Callable[[str], None] = print,
) -> Sent:
    """Send it, at most once. Raises NotTaken or Unknown; ``say`` is told about each further try.

    Whatever leaves this function, KeyboardInterrupt too: ``parcel.in_doubt`` is then true if the board may have it.
    """
    token = check_token(token)
    for pause in patience.waits:
        try:
            return _try(parcel, token, patience)
        except _Later as later:
            if later.after is not None and later.after > patience.longest:
                raise NotTaken(
                    later.message,
                    hint=f"nothing was recorded; the board asks for {later.after:.0f} s of patience "
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
    """Notes when it is first read, which is after the connection stands and the headers are out."""

    def __init__(self, parcel: Parcel) -> None:
        super().__init__(parcel.body)
        self._parcel = parcel

    def read(self, size: int | None = -1, /) -> bytes:
        self._parcel.in_doubt = True
        return super().read(size)


class _Bearer(AuthBase):
    """As an auth object, because a plain header would give way to a ``.netrc`` entry for the host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _text(reply: requests.Response, patience: float) -> str:
    """What arrives of the reply within bounds; a status stands whether or not its text is whole."""
    deadline, arrived = time.monotonic() + patience, bytearray()
    try:
        for byte in reply.iter_content(1):  # larger pieces would wait for each piece to be full
            arrived += byte
            if len(arrived) >= REPLY_LIMIT or time.monotonic() > deadline:
                break
    except (OSError, HTTPError):
        arrived += b" (the reply was cut off here)"
    return arrived.decode("utf-8", errors="replace")


def _judge(host: str, reply: requests.Response, text: str, redactor: Redactor) -> Sent:
    """What a reply proves."""
    status = reply.status_code
    answer = _json(text)
    words = answer.get("error") or answer.get("message") if answer else None
    said = shown(words if isinstance(words, str) else text, redactor) or "(an empty reply)"
    message = f"{host} answered HTTP {status}: {said}"
    if status in (429, 503):
        after = _seconds(reply.headers.get("Retry-After", ""))
        if status == 429 and after is None:
            after = _said_seconds(said)
            if after is None:  # another try would count, and be refused
                raise NotTaken(
                    message,
                    hint="nothing was recorded; the board takes five tries of a user in two hours (120 minutes), "
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
        message = f"{host} answered HTTP {status}, a redirect to {shown(reply.headers.get('Location', 'nowhere'), redactor)}, which is not followed"
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
    """What a try without an answer proves."""
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
            hint="nothing was sent; certificates of your own network go into REQUESTS_CA_BUNDLE=/path/to/bundle.pem",
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
    """The beginning of what a stranger wrote, fit for a terminal: one line, no control characters, no secrets."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return redactor.line(re.sub(r" +", " ", printable)).strip()[
        :SHOWN
    ]  # cut last: half a secret is not recognised


def _said_seconds(text: str) -> float | None:
    """The time to wait as a reply's words have it ("try again in 42 minutes")."""
    found = re.search(r"(\d{1,6})\s*(second|minute|hour|s|min|m|h)s?\b", text)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2][0]] if found else None


def _seconds(text: str) -> float | None:
    """Retry-After as seconds: a number or a date. None if it is neither."""
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
