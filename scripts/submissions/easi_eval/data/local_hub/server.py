"""A small Hugging Face hub on loopback for the real clients; tests can make it misbehave.

It serves a plain folder tree, ``root/{datasets,models}/<org>/<name>/...``, under the addresses that
huggingface_hub and datasets use.  Each repository has one branch, ``main``, whose commit is a hash
of its files, so that a changed file is a new commit.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

from . import repository

_KINDS = ("datasets", "models")
_RESOLVE = re.compile(r"^/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_API = re.compile(
    r"^/api/(datasets|models)/([^/]+/[^/]+)"
    r"(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(?:/(.*))?)?)?$"
)
_RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")
_CHUNK = 1 << 16


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
    missing: frozenset[str] = frozenset()
    token: str | None = None
    hang: float = 0.0


@dataclass(frozen=True)
class Served:
    """One answered request: the body bytes sent (0 for HEAD) and its Range header, "" if none."""

    method: str
    path: str
    status: int
    sent: int
    range: str


class LocalHub:
    """A running hub, and the context manager that stops it; HF_ENDPOINT is set to ``endpoint``."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._faults = Faults()
        self._served: list[Served] = []
        self._files = repository.RepositoryIndex()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="smoke-hub", daemon=True
        )
        self._thread.start()

    def set_faults(self, faults: Faults) -> None:
        """From now on requests are answered with these faults (and their counts start anew)."""
        with self._lock:
            self._faults = faults

    def served(self) -> tuple[Served, ...]:
        """The requests answered so far, in order of their answers."""
        with self._lock:
            return tuple(self._served)

    def stop(self) -> None:
        """Close the port; hanging requests are let go.  May be called twice."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LocalHub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # What the request handlers need.

    def faults_for(self, path: str) -> Faults:
        """The faults that hold for this request; those that do not match it are left out."""
        with self._lock:
            faults = self._faults
        if faults.match in path:
            return faults
        return Faults(missing=faults.missing, token=faults.token)

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

    def note(self, served: Served) -> None:
        """Add an answered request to ``served``."""
        with self._lock:
            self._served.append(served)

    def repo(self, kind: str, name: str) -> repository.LocalRepository | None:
        """The repository's files now, or None; ``name`` is 'org/name'."""
        folder = self.root / kind / name
        if ".." in name.split("/") or not folder.is_dir():
            return None
        return self._files.repo(folder)


def start(root: Path, port: int = 0) -> LocalHub:
    """Serve ``root`` on a free loopback port (or on ``port``); returns at once."""
    return LocalHub(root, port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not delay stop()
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], hub: LocalHub) -> None:
        self.hub = hub
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away (or that we dropped on purpose) is not worth a traceback."""


class _Dropped(Exception):
    """The connection is to be closed without finishing the answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        # Answers are two small writes (headers, body); without this each waits 40 ms for an ACK.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: tests ask ``LocalHub.served`` instead."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = unquote(url.path)
        faults = hub.faults_for(path)
        if faults.hang:
            hub.wait(faults.hang)
        try:
            if faults.status and hub.use_status():
                after = (
                    {} if faults.retry_after is None else {"Retry-After": str(faults.retry_after)}
                )
                self._send(faults.status, b"", after)
            elif (
                faults.token is not None
                and self.headers.get("Authorization") != f"Bearer {faults.token}"
            ):
                self._unauthorized()
            else:
                self._route(path, parse_qs(url.query), faults)
        except _Dropped:
            self.close_connection = True

    def _route(self, path: str, query: dict[str, list[str]], faults: Faults) -> None:
        if path == "/api/whoami-v2":
            self._whoami()
        elif found := _RESOLVE.match(path):
            kind, name, revision, file = found.groups()
            if repo := self._repo(kind or "models", name, revision, faults):
                self._file(repo, file, faults)
        elif found := _API.match(path):
            kind, name, what, revision, rest = found.groups()
            if repo := self._repo(kind, name, revision, faults):
                self._api(kind, name, repo, what, rest or "", query)
        else:
            self._refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def _repo(
        self, kind: str, name: str, revision: str | None, faults: Faults
    ) -> repository.LocalRepository | None:
        """The repository at that revision, or None after the refusal was sent."""
        repo = None if name in faults.missing else self.server.hub.repo(kind, name)
        if repo is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif revision not in (None, "main", "refs/heads/main", repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def _unauthorized(self) -> None:
        """Refuse the request as the real hub does.

        A wrong token gets an error about the token. Without a token, a private repository gets the
        same answer as a missing one.
        """
        if self.headers.get("Authorization"):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        else:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")

    def _whoami(self) -> None:
        if not self.headers.get("Authorization"):
            self._refuse(401, "", "Invalid username or password.")
            return
        access = {"displayName": "smoke", "role": "read"}
        self._json(
            {
                "type": "user",
                "id": "0",
                "name": "smoke",
                "fullname": "smoke",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": access},
            }
        )

    def _api(
        self,
        kind: str,
        name: str,
        repo: repository.LocalRepository,
        what: str | None,
        rest: str,
        query: dict[str, list[str]],
    ) -> None:
        head = {"X-Repo-Commit": repo.commit}
        if what == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            entries = repo.tree(rest.strip("/"), recursive)
            if entries is None:
                self._refuse(404, "EntryNotFound", f'{rest} does not exist on "main"')
            else:
                self._json(entries, head)
        elif what == "paths-info":
            wanted = parse_qs(self._body.decode()).get("paths", [])
            self._json(
                [entry for path in wanted if (entry := repo.entry(path.strip("/"))) is not None],
                head,
            )
        elif what == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commit}
            self._json({"branches": [main], "converts": [], "tags": []})
        else:
            blobs = query.get("blobs", ["false"])[0].lower() in ("true", "1")
            self._json(repo.info(kind, name, blobs), head)

    def _file(self, repo: repository.LocalRepository, path: str, faults: Faults) -> None:
        head = {"X-Repo-Commit": repo.commit}
        file = repo.files.get(path)
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found", head)
            return
        head |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.lfs:
            head |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.etag}"'}
        first, last = 0, file.size - 1
        status = 200
        if asked := _RANGE.match(self.headers.get("Range") or ""):
            first = int(asked[1])
            last = min(int(asked[2] or last), last)
            if first > last:
                self._send(416, b"", head | {"Content-Range": f"bytes */{file.size}"})
                return
            status = 206
            head["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        limit = None
        self._pause = faults.pause
        if self.command == "GET" and faults.drop_after is not None and self.server.hub.use_drop():
            limit = faults.drop_after
        self._send(status, _slices(file.path, first, last), head, last - first + 1, limit)

    def _json(self, value: object, head: dict[str, str] | None = None) -> None:
        self._send(
            200,
            repository.to_json(value),
            (head or {}) | {"Content-Type": "application/json; charset=utf-8"},
        )

    def _refuse(
        self, status: int, code: str, message: str, head: dict[str, str] | None = None
    ) -> None:
        head = (head or {}) | {
            "X-Error-Message": message,
            "Content-Type": "application/json; charset=utf-8",
        }
        if code:
            head["X-Error-Code"] = code
        self._send(status, repository.to_json({"error": message}), head)

    def _send(
        self,
        status: int,
        body: bytes | Iterator[bytes],
        head: dict[str, str],
        length: int | None = None,
        limit: int | None = None,
    ) -> None:
        """Send an answer of ``length`` bytes; after ``limit`` bytes the connection is dropped."""
        parts = iter((body,)) if isinstance(body, bytes) else body
        total = len(body) if isinstance(body, bytes) else length or 0
        sent = 0
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(total)} | head).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                for part in parts:
                    if limit is not None and sent + len(part) >= limit:
                        self.wfile.write(part[: limit - sent])
                        sent = limit
                        self.server.hub.wait(self._pause)
                        raise _Dropped
                    self.wfile.write(part)
                    sent += len(part)
        except (ConnectionError, TimeoutError) as error:
            raise _Dropped from error
        finally:
            asked = self.headers.get("Range") or ""
            self.server.hub.note(Served(self.command, unquote(self.path), status, sent, asked))


def _slices(path: Path, first: int, last: int) -> Iterator[bytes]:
    """The bytes ``first`` to ``last`` (both included) of a file, in pieces."""
    left = last - first + 1
    with path.open("rb") as file:
        file.seek(first)
        while left > 0 and (part := file.read(min(_CHUNK, left))):
            left -= len(part)
            yield part


def main() -> None:
    """Serve until interrupted, and print the endpoint.

    Usage: ``python -m easi_eval.data.local_hub.server ROOT [PORT]``.
    """
    import sys

    hub = start(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(hub.endpoint, flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        hub.stop()


if __name__ == "__main__":
    main()
