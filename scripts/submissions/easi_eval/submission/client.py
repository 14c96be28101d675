"""Send one submission over HTTP, in repeated attempts.

An attempt is repeated only if the leaderboard cannot have recorded the submission, see ``reply``.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from ..core.errors import EasiError
from ..core.redact import Redactor
from .endpoint import NotTaken, check_token
from .parcel import Parcel
from .reply import OutcomeUnknown, Sent, TryLater, no_answer, outcome_of

REPLY_LIMIT = 1 << 16  # bytes; the rest of a reply is not read


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
        OutcomeUnknown: It is unknown whether the leaderboard has recorded it.
        EasiError: The token is missing or cannot be used in a header.
    """
    token = check_token(token)
    for pause in patience.waits:
        try:
            return _try(parcel, token, patience)
        except TryLater as later:
            if later.after is not None and later.after > patience.longest:
                raise NotTaken(
                    later.message,
                    hint=f"nothing was recorded; the leaderboard asks to wait {later.after:.0f} s "
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
            return outcome_of(parcel.host, reply, _text(reply, patience.answer), redactor)
    except EasiError as error:
        parcel.in_doubt = isinstance(error, OutcomeUnknown)
        raise
    except (OSError, HTTPError, ValueError) as error:  # requests' own exceptions are OSErrors
        raise no_answer(parcel.host, error, parcel.in_doubt, redactor) from error


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
