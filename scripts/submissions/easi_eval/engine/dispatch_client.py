"""A worker's side of the dispatcher: in another process, or in this one if there is none."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..core.run_folder import RunPaths
from .dispatch_secret import proof
from .dispatcher import Broken, Dispatcher
from .journal import Answer, Loaded, Phase, encode
from .lease import DispatcherClient, Lease, RaisedQuestion
from .work import Item, Work

VARIABLE = "EASI_DISPATCHER"  # set by a keeper: another process has the dispatcher
WAIT_FOR = 60.0  # seconds for a dispatcher to appear
CONNECT_WITHIN = 10.0


class BrokenWorker(RuntimeError):
    """This process can no longer answer anything; a new process may."""


def connect(run_root: Path, work: Work) -> DispatcherClient:
    """The dispatcher of this run, for the worker named by EASI_WORKER (default w0).

    A worker without a keeper is alone and has a dispatcher of its own.

    Raises:
        EasiError: The file that says where the dispatcher is leads to none.
    """
    worker, attempt = (
        os.environ.get("EASI_WORKER") or "w0",
        int(os.environ.get("EASI_ATTEMPT") or 0),
    )
    if not os.environ.get(VARIABLE):
        return InProcessClient(run_root, work, worker, attempt)
    until = time.monotonic() + WAIT_FOR
    while True:
        try:
            return SocketClient(run_root, work, worker, attempt)
        # An EasiError: the file is not there yet, or the dispatcher went during the greeting.
        except (EasiError, OSError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > until:
                raise _gone() from error
        time.sleep(0.5)


class InProcessClient(DispatcherClient):
    """A dispatcher in this process, for its only worker."""

    def __init__(self, run_root: Path, work: Work, worker: str = "w0", attempt: int = 0) -> None:
        self._dispatcher = Dispatcher(run_root, work)
        self._member = self._dispatcher.join(worker, attempt)

    def __exit__(self, *exception: object) -> None:
        self._dispatcher.close()

    def record(self, record: Answer | Phase | Loaded) -> None:
        """See ``DispatcherClient.record``."""
        self._dispatcher.record(self._member, record)

    def tell(self, items: Mapping[str, Sequence[Item]], chunk: int, at_once: int) -> None:
        """See ``DispatcherClient.tell``."""
        self._member.at_once = at_once
        self._dispatcher.learn(items, chunk)

    def ask(self, ahead: bool = False, wait: bool = True) -> Lease | None:
        """See ``DispatcherClient.ask``."""
        given = self._dispatcher.ask(self._member, ahead)
        self.over = self._dispatcher.over
        if isinstance(given, Broken):
            raise BrokenWorker(given.reason)
        return given

    def finish(self, lease: Lease, raised: Sequence[RaisedQuestion]) -> None:
        """See ``DispatcherClient.finish``."""
        self._dispatcher.finish(self._member, lease.number, raised)

    def give_back(self, lease: Lease, reason: str) -> None:
        """See ``DispatcherClient.give_back``."""
        self._dispatcher.give_back(self._member, lease.number, reason)


class SocketClient(DispatcherClient):
    """A dispatcher in another process.

    Raises:
        OSError: Nothing listens there.
        ValueError: The file is damaged, or what listens there is not the dispatcher.
    """

    def __init__(self, run_root: Path, work: Work, worker: str, attempt: int) -> None:
        address = read_json(RunPaths(run_root).dispatcher)
        if not isinstance(address, dict):
            raise ValueError("no address")
        self._socket = socket.create_connection(
            (address["host"], address["port"]), timeout=CONNECT_WITHIN
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        nonce = secrets.token_hex(16)
        try:
            theirs = json.loads(self._lines.readline())["nonce"]
            self._send(
                proof=proof(address["secret"], "worker", theirs),
                nonce=nonce,
                worker=worker,
                attempt=attempt,
                host=socket.gethostname(),
                pid=os.getpid(),
                launch=work.launch,
                stage=work.stage,
            )
            answer = json.loads(self._lines.readline() or b"{}")
            if answer.get("proof") != proof(address["secret"], "dispatcher", nonce):
                raise ValueError("this is not the dispatcher")
        except BaseException:
            self._close()
            raise
        self._socket.settimeout(None)

    def __exit__(self, *exception: object) -> None:
        self._close()

    def record(self, record: Answer | Phase | Loaded) -> None:
        """See ``DispatcherClient.record``."""
        self._write(encode(record))

    def tell(self, items: Mapping[str, Sequence[Item]], chunk: int, at_once: int) -> None:
        """See ``DispatcherClient.tell``."""
        digest = Dispatcher.digest(items)
        # Once more after they were sent: another worker may have been first, with others.
        while not self._request(type="questions", digest=digest, at_once=at_once)["known"]:
            rows = [[key, [[item.id, item.cost] for item in each]] for key, each in items.items()]
            self._send(type="items", items=rows, chunk=chunk)

    def ask(self, ahead: bool = False, wait: bool = True) -> Lease | None:
        """See ``DispatcherClient.ask``."""
        told = self._request(type="ask", ahead=ahead, wait=wait)
        if "broken" in told:
            raise BrokenWorker(told["broken"])
        self.over = bool(told.get("over"))
        if self.over or told["lease"] is None:
            return None
        number, places, upcoming = told["lease"]
        return Lease(number, tuple(places), upcoming=tuple(upcoming))

    def finish(self, lease: Lease, raised: Sequence[RaisedQuestion]) -> None:
        """See ``DispatcherClient.finish``."""
        rows = [[one.place, one.reason, one.lacks_memory] for one in raised]
        self._send(type="finish", lease=lease.number, raised=rows)

    def give_back(self, lease: Lease, reason: str) -> None:
        """See ``DispatcherClient.give_back``."""
        self._send(type="give back", lease=lease.number, reason=reason)

    def _request(self, **message: Any) -> dict[str, Any]:
        self._send(**message)
        try:
            line = self._lines.readline()
        except OSError as error:
            raise _gone() from error
        if not line:
            raise _gone()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise EasiError(told["error"], hint=told["hint"])
        return told

    def _send(self, **message: Any) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise _gone() from error

    def _close(self) -> None:
        self._lines.close()
        self._socket.close()


def _gone() -> EasiError:
    return EasiError(
        "the dispatcher of this run is gone",
        hint="run the same command again; saved answers are kept",
    )
