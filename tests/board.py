"""A leaderboard on loopback, as strict as a real one, which tests can make fail.

It checks token, form fields, schema, size and duplicates. But for the names of the benchmarks it
shares no code with the program: what it accepts is written here from the submission guide.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import socket
import struct
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from easi_eval.benchmarks import BENCHMARKS, headline_keys

PATH = "/api/submit-with-file/"
LIMIT = 4_500_000
TEXTS = {
    "modelName",
    "modelType",
    "precision",
    "revision",
    "weightType",
    "baseModel",
    "backend",
    "remarks",
}
CHOICES = {
    "modelType": {"pretrained", "finetuned", "instruction", "rl"},
    "precision": {"bfloat16", "float16", "float32", "int8"},
    "weightType": {"Original", "Delta", "Adapter"},
    "backend": {"vlmevalkit", "lmmseval"},
}
EASI_8 = set(headline_keys())
OPTIONAL = {bench.key for bench in BENCHMARKS if not bench.core}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    ``kind`` is one of:

    - ``status``: answered with ``status`` and ``body``.
    - ``hang``: no answer for as long as the board lives.
    - ``reset``: the connection is reset once the body has arrived.
    - ``early``: the connection is reset before the body is read.
    - ``torn``: the reply stops half-way.
    - ``trickle``: the reply never ends.

    With ``records`` the request is still checked and recorded before the fault happens.
    """

    kind: str = "status"
    status: int = 500
    body: str = "<html><body>sorry</body></html>"
    headers: dict[str, str] = field(default_factory=dict)
    records: bool = False


class Refusal(Exception):
    """A request the board does not take: status and reason."""


@dataclass(frozen=True)
class Entry:
    """One row of the board."""

    payload: dict[str, Any]
    archive: bytes
    raw: str


class Board:
    """A running board; a context manager.

    ``requests`` holds (path, Authorization, time) of every request that arrived.
    """

    def __init__(self, token: str = "hf_board", duplicates: bool = False) -> None:
        self.token = token
        self.duplicates = duplicates  # whether it takes one payload twice
        self.faults: deque[Fault] = deque()  # one for each of the next requests; none: it works
        self.entries: list[Entry] = []
        self.requests: list[tuple[str, str | None, float]] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        board = self

        class Bound(_Handler):
            pass

        Bound.board = board
        self._server = _Server(("127.0.0.1", 0), Bound)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = self.address + PATH
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def fail(self, *faults: Fault) -> None:
        self.faults = deque(faults)

    def fault(self) -> Fault | None:
        with self._lock:
            return self.faults.popleft() if self.faults else None

    def record(self, path: str, token: str | None, content_type: str, body: bytes) -> Entry:
        """Take it. Raises Refusal."""
        if path != PATH:
            raise Refusal(404, "no such page")
        if token != f"Bearer {self.token}":
            raise Refusal(401, "invalid token")
        if len(body) > LIMIT:
            raise Refusal(413, "too large")
        entry = read_form(content_type, body)
        with self._lock:
            if not self.duplicates and any(
                entry.payload == other.payload for other in self.entries
            ):
                raise Refusal(409, "this submission exists already")
            self.entries.append(entry)
        return entry

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of many tests."""


class _Handler(BaseHTTPRequestHandler):
    board: Board
    wbufsize = -1  # head and body in one piece: in two, each answer waits for an acknowledgement

    def do_POST(self) -> None:
        board = self.board
        token = self.headers.get("Authorization")
        board.requests.append((self.path, token, time.monotonic()))
        fault = board.fault()
        if fault is not None and fault.kind == "early":
            return self._reset()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if fault is None or fault.records:
                board.record(self.path, token, self.headers.get("Content-Type", ""), body)
        except Refusal as refusal:
            status, reason = refusal.args
            if fault is None:
                return self._answer(
                    status,
                    json.dumps({"success": False, "error": reason}),
                    {"Content-Type": "application/json"},
                )
        if fault is None:
            return self._answer(
                200,
                json.dumps({"success": True, "message": "received"}),
                {"Content-Type": "application/json"},
            )
        if fault.kind == "hang":
            board.stopping.wait()
        if fault.kind in ("hang", "reset"):
            return self._reset()
        if fault.kind == "torn":
            self._answer(
                fault.status,
                fault.body,
                {**fault.headers, "Content-Length": str(len(fault.body) + 100)},
            )
            return self._reset()
        if fault.kind == "trickle":
            self._answer(fault.status, fault.body, {**fault.headers, "Content-Length": "1000000"})
            while not board.stopping.wait(0.01):
                self.wfile.write(b" ")
                self.wfile.flush()
            return None
        return self._answer(fault.status, fault.body, fault.headers)

    do_GET = do_POST

    def _answer(self, status: int, body: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())
        self.wfile.flush()

    def _reset(self) -> None:
        # A socket that does not linger is closed with a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def read_form(content_type: str, body: bytes) -> Entry:
    """The two fields, checked. Raises Refusal."""
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    if message.get_content_type() != "multipart/form-data" or not message.is_multipart():
        raise Refusal(400, "not a multipart form")
    fields = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        if part.get_content_disposition() != "form-data" or name in fields:
            raise Refusal(400, f"bad field {name}")
        fields[name] = part
    if list(fields) != ["payload", "zipFile"]:
        raise Refusal(400, f"the fields are {list(fields)}")
    if fields["payload"].get_filename() is not None:
        raise Refusal(400, "payload is a file")
    if (
        fields["zipFile"].get_filename() != "easi_results.zip"
        or fields["zipFile"].get_content_type() != "application/zip"
    ):
        raise Refusal(400, "zipFile is no zip file")
    raw = raw_part(body, content_type, b'name="payload"').decode("utf-8")
    archive = raw_part(body, content_type, b'name="zipFile"')
    check_archive(archive)
    return Entry(check_payload(raw), archive, raw)


def raw_part(body: bytes, content_type: str, mark: bytes) -> bytes:
    """The bytes of a part as they were sent: the mail parser changes line ends."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    if (
        not boundary[2:]
        or not body.startswith(boundary + b"\r\n")
        or not body.endswith(b"\r\n" + boundary + b"--\r\n")
    ):
        raise Refusal(400, "the form is not closed by its boundary")
    for part in body[len(boundary) + 2 :].split(b"\r\n" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if mark in head:
            return content
    raise Refusal(400, f"no {mark!r}")


def check_archive(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.testzip() is not None or not archive.namelist():
                raise Refusal(400, "the zip is damaged or empty")
    except zipfile.BadZipFile as error:
        raise Refusal(400, "zipFile is no zip") from error


def check_payload(text: str) -> dict[str, Any]:
    def refuse_constant(name: str) -> None:
        raise Refusal(400, f"{name} is not JSON")

    try:
        payload = json.loads(text, parse_constant=refuse_constant)
    except ValueError as error:
        raise Refusal(400, "payload is not JSON") from error
    if set(payload) - TEXTS - {"scores", "subScores"}:
        raise Refusal(400, f"unknown fields in {sorted(payload)}")
    for name in TEXTS & set(payload):
        if not isinstance(payload[name], str) or (
            name in CHOICES and payload[name] not in CHOICES[name]
        ):
            raise Refusal(400, f"{name} is {payload[name]!r}")
    if "/" not in payload.get("modelName", "") or not {"modelType", "precision", "backend"} <= set(
        payload
    ):
        raise Refusal(400, "a required field is missing")
    if payload.get("weightType", "Original") != "Original" and not payload.get("baseModel"):
        raise Refusal(400, "baseModel is missing")
    scores, parts = payload.get("scores", {}), payload.get("subScores", {})
    if EASI_8 - set(scores) or set(scores) - EASI_8 - OPTIONAL or set(parts) - set(scores):
        raise Refusal(400, f"the scores are {sorted(scores)}")
    check_numbers(
        [*scores.values(), *(value for inner in parts.values() for value in inner.values())]
    )
    return payload


def check_numbers(values: Iterable[object]) -> None:
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise Refusal(400, f"{value!r} is no number")
        if not -100 <= value <= 100 or round(value, 4) != value:
            raise Refusal(400, f"{value!r} is out of range or not rounded")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
