"""A small Hugging Face hub on loopback for the real clients, which serves the rehearsal's data.

It serves a plain folder tree, ``root/{datasets,models}/<org>/<name>/...``, under the addresses that
huggingface_hub and datasets use.  Each repository has one branch, ``main``, whose commit is a hash
of its files, so that a changed file is a new commit.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
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


class LocalHub:
    """A running hub, and the context manager that stops it; HF_ENDPOINT is set to ``endpoint``.

    It serves ``root`` on ``port``, or on a free one.
    """

    def __init__(self, root: Path, port: int = 0, handler: type[HubHandler] | None = None) -> None:
        self.root = root
        self._files = repository.RepositoryIndex()
        self._server = _Server(("127.0.0.1", port), handler or HubHandler)
        self._server.hub = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="smoke-hub", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def repo(self, kind: str, name: str) -> repository.LocalRepository | None:
        """Return the repository's files now, or None; ``name`` is 'org/name'."""
        folder = self.root / kind / name
        if ".." in name.split("/") or not folder.is_dir():
            return None
        return self._files.repo(folder)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not delay stop()
    request_queue_size = 128
    hub: LocalHub

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about a client that closed the connection."""


class HubHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def hub(self) -> LocalHub:
        """The hub that is asked."""
        return self.server.hub

    def setup(self) -> None:
        """Prepare the connection."""
        super().setup()
        # Answers are two small writes (headers, body); without this each waits 40 ms for an ACK.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the terminal belongs to the run."""

    def do_GET(self) -> None:
        """Answer a GET request."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer a HEAD request."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a POST request."""
        self._answer()

    def _answer(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.route(unquote(url.path), parse_qs(url.query))

    def route(self, path: str, query: dict[str, list[str]]) -> None:
        """Answer the request for ``path``."""
        if path == "/api/whoami-v2":
            self._whoami()
        elif found := _RESOLVE.match(path):
            kind, name, revision, file = found.groups()
            if repo := self._repo(kind or "models", name, revision):
                self._file(repo, file)
        elif found := _API.match(path):
            kind, name, what, revision, rest = found.groups()
            if repo := self._repo(kind, name, revision):
                self._api(kind, name, repo, what, rest or "", query)
        else:
            self.refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def _repo(
        self, kind: str, name: str, revision: str | None
    ) -> repository.LocalRepository | None:
        """Return the repository at that revision, or None after the refusal was sent."""
        repo = self.hub.repo(kind, name)
        if repo is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif revision not in (None, "main", "refs/heads/main", repo.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def _whoami(self) -> None:
        if not self.headers.get("Authorization"):
            self.refuse(401, "", "Invalid username or password.")
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
                self.refuse(404, "EntryNotFound", f'{rest} does not exist on "main"')
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

    def _file(self, repo: repository.LocalRepository, path: str) -> None:
        head = {"X-Repo-Commit": repo.commit}
        file = repo.files.get(path)
        if file is None:
            self.refuse(404, "EntryNotFound", "Entry not found", head)
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
                self.send(416, b"", head | {"Content-Range": f"bytes */{file.size}"})
                return
            status = 206
            head["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        self.send(status, self.slices(file.path, first, last), head, last - first + 1)

    def _json(self, value: object, head: dict[str, str] | None = None) -> None:
        self.send(
            200,
            repository.to_json(value),
            (head or {}) | {"Content-Type": "application/json; charset=utf-8"},
        )

    def refuse(
        self, status: int, code: str, message: str, head: dict[str, str] | None = None
    ) -> None:
        """Send an error as the real hub does; ``code`` goes into X-Error-Code."""
        head = (head or {}) | {
            "X-Error-Message": message,
            "Content-Type": "application/json; charset=utf-8",
        }
        if code:
            head["X-Error-Code"] = code
        self.send(status, repository.to_json({"error": message}), head)

    def send(
        self, status: int, body: bytes | Iterator[bytes], head: dict[str, str], length: int = 0
    ) -> None:
        """Send an answer; ``length`` is the number of bytes of an iterator."""
        total = len(body) if isinstance(body, bytes) else length
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(total)} | head).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                for part in (body,) if isinstance(body, bytes) else body:
                    self.wfile.write(part)
        except (ConnectionError, TimeoutError):  # the client closed it
            self.close_connection = True

    def slices(self, path: Path, first: int, last: int) -> Iterator[bytes]:
        """Yield the bytes ``first`` to ``last`` (both included) of a file, in pieces."""
        left = last - first + 1
        with path.open("rb") as file:
            file.seek(first)
            while left > 0 and (part := file.read(min(_CHUNK, left))):
                left -= len(part)
                yield part
