"""The local hub of the rehearsal, made to misbehave, and a record of the requests it answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from easi_eval.data.local_hub import repository
from easi_eval.data.local_hub.server import HubHandler, LocalHub


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and for which requests; the default is nothing.

    Attributes:
        match: Limits every fault but ``token`` and ``missing`` to request paths that contain it.
        status: The status code with which requests are answered.
        times: How many requests are answered with ``status``; -1 for all.
        retry_after: Seconds in the Retry-After header of these answers; None for no header.
        drop_after: The connection is closed after this many bytes of a file's body.
        drop_times: How often that happens; -1 for always.
        pause: Seconds for which the body stands still before the connection is closed.
        slow: Seconds between two pieces (64 KiB) of a file's body.
        missing: Repositories that are answered as if they did not exist.
        token: The only token accepted; None if no token is needed.
        hang: Seconds to wait before each answer.
    """

    match: str = ""
    status: int = 0
    times: int = 0
    retry_after: int | None = None
    drop_after: int | None = None
    drop_times: int = -1
    pause: float = 0.0
    slow: float = 0.0
    missing: frozenset[str] = frozenset()
    token: str | None = None
    hang: float = 0.0


@dataclass(frozen=True)
class Request:
    """One answered request: the body bytes sent (0 for HEAD) and its Range header, "" if none."""

    method: str
    path: str
    status: int
    sent: int
    range: str


class FaultyHub(LocalHub):
    """A local hub whose faults can be set while it runs."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._faults = Faults()
        self._served: list[Request] = []
        self._stopping = threading.Event()
        super().__init__(root, port, _FaultyHandler)

    def set_faults(self, faults: Faults) -> None:
        """From now on requests are answered with these faults; their counts start anew."""
        with self._lock:
            self._faults = faults

    def served(self) -> tuple[Request, ...]:
        """Return the requests answered so far, in order of their answers."""
        with self._lock:
            return tuple(self._served)

    def stop(self) -> None:
        """Close the port; hanging requests are released."""
        self._stopping.set()
        super().stop()

    def repo(self, kind: str, name: str) -> repository.LocalRepository | None:
        """Return the repository's files now; None if there is none, or it is to be missing."""
        with self._lock:
            missing = name in self._faults.missing
        return None if missing else super().repo(kind, name)

    def faults_for(self, path: str) -> Faults:
        """Return the faults that hold for this request; those that do not match it are left out."""
        with self._lock:
            faults = self._faults
        return faults if faults.match in path else Faults(token=faults.token)

    def use_status(self) -> bool:
        """Take one of the counted ``status`` answers; False when none is left."""
        with self._lock:
            if not self._faults.status or self._faults.times == 0:
                return False
            if self._faults.times > 0:
                self._faults = replace(self._faults, times=self._faults.times - 1)
            return True

    def use_drop(self) -> bool:
        """Take one of the counted dropped connections; False when none is left."""
        with self._lock:
            if self._faults.drop_after is None or self._faults.drop_times == 0:
                return False
            if self._faults.drop_times > 0:
                self._faults = replace(self._faults, drop_times=self._faults.drop_times - 1)
            return True

    def wait(self, seconds: float) -> None:
        """Wait; ``stop`` ends the wait."""
        self._stopping.wait(seconds)

    def note(self, request: Request) -> None:
        """Add an answered request to ``served``."""
        with self._lock:
            self._served.append(request)


class _FaultyHandler(HubHandler):
    hub: FaultyHub

    def route(self, path: str, query: dict[str, list[str]]) -> None:
        self._faults = faults = self.hub.faults_for(path)
        if faults.hang:
            self.hub.wait(faults.hang)
        if faults.status and self.hub.use_status():
            after = faults.retry_after
            self.send(faults.status, b"", {} if after is None else {"Retry-After": str(after)})
        elif faults.token is not None and self._authorization() != f"Bearer {faults.token}":
            self._unauthorized()
        else:
            super().route(path, query)

    def _authorization(self) -> str:
        return self.headers.get("Authorization") or ""

    def _unauthorized(self) -> None:
        """Refuse the request as the real hub does.

        A wrong token gets an error about the token. Without a token, a private repository gets the
        same answer as a missing one.
        """
        if self._authorization():
            self.refuse(401, "", "Invalid credentials in Authorization header")
        else:
            self.refuse(401, "RepoNotFound", "Invalid username or password.")

    def slices(self, path: Path, first: int, last: int) -> Iterator[bytes]:
        """Yield the bytes of a file, and drop the connection where the faults say so."""
        parts = super().slices(path, first, last)
        limit = self._faults.drop_after
        if limit is not None and not self.hub.use_drop():
            limit = None
        for part in parts:
            yield part[:limit]
            self.hub.wait(self._faults.slow)
            if limit is not None:
                limit -= len(part)
                if limit <= 0:
                    self.hub.wait(self._faults.pause)
                    raise ConnectionAbortedError

    def send(
        self, status: int, body: bytes | Iterator[bytes], head: dict[str, str], length: int = 0
    ) -> None:
        sent = 0

        def counted() -> Iterator[bytes]:
            nonlocal sent
            for part in (body,) if isinstance(body, bytes) else body:
                yield part
                sent += len(part)

        total = len(body) if isinstance(body, bytes) else length
        try:
            super().send(status, counted(), head, total)
        finally:
            asked = self.headers.get("Range") or ""
            self.hub.note(Request(self.command, unquote(self.path), status, sent, asked))
