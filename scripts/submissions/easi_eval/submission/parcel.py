"""The request that submits a run, built once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from .. import __version__
from .endpoint import LIMIT, NotTaken, by_hand, host_of
from .payload import payload_text, to_send


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
                f"the submission has {len(self.body):,} bytes, and the leaderboard takes {LIMIT:,}",
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
