"""A worker's side of the dispatcher: in another process, or in this one if there is none."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.atomic_files import read_json
from ..core.errors import EasiError
from ..core.run_folder import RunPaths
from .dispatch_secret import BEAT, CONNECT_AGAIN_FOR, CONNECT_WITHIN, GONE_AFTER, proof
from .dispatcher import Broken, Dispatcher
from .journal import Answer, Journal, Loaded, Phase, encode
from .lease import DispatcherClient, Lease, RaisedQuestion
from .work import Item, Work

VARIABLE = "EASI_DISPATCHER"  # set by a keeper: another process has the dispatcher
NODE = "EASI_NODE"  # set on a machine that joined the run: its name
WAIT_FOR = 60.0  # seconds for a dispatcher to appear


class BrokenWorker(RuntimeError):
    """This process can no longer answer anything; a new process may."""


class DispatcherGone(EasiError):
    """The connection to the dispatcher is lost."""

    def __init__(self) -> None:
        super().__init__(
            "the dispatcher of this run is gone",
            hint="run the same command again; saved answers are kept",
        )


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
    kind = NodeClient if os.environ.get(NODE) else SocketClient
    until = time.monotonic() + WAIT_FOR
    while True:
        try:
            return kind(run_root, work, worker, attempt)
        # An EasiError: the file is not there yet, or the dispatcher went during the greeting.
        except (EasiError, OSError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > until:
                raise DispatcherGone from error
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
        self._run_root, self._work = run_root, work
        self._worker, self._attempt = worker, attempt
        self._connect()

    def _connect(self) -> None:
        address = read_json(RunPaths(self._run_root).dispatcher)
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
                worker=self._worker,
                attempt=self._attempt,
                host=socket.gethostname(),
                pid=os.getpid(),
                launch=self._work.launch,
                stage=self._work.stage,
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
        number, places, returned, upcoming = told["lease"]
        return Lease(number, tuple(places), returned, tuple(upcoming))

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
            raise DispatcherGone from error
        if not line:
            raise DispatcherGone
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
            raise DispatcherGone from error

    def _close(self) -> None:
        self._lines.close()
        self._socket.close()


class NodeClient(SocketClient):
    """The dispatcher on another machine, for a worker of a node that joined the run.

    A lost connection is made again, and what may not have arrived is sent again: the dispatcher
    ignores an answer that it has. The worker also keeps its journal on this machine, which shows
    its keeper whether it hangs.
    """

    def __init__(self, run_root: Path, work: Work, worker: str, attempt: int) -> None:
        self._unconfirmed: list[Answer | Phase | Loaded] = []  # sent since the last reply
        self._told: tuple[Mapping[str, Sequence[Item]], int, int] | None = None
        self._leases: set[int] = set()  # that were given over this connection
        self._items: tuple[Item, ...] = ()
        super().__init__(run_root, work, worker, attempt)
        self._journal = Journal(RunPaths(run_root).journal, worker, attempt, work.launch)

    def __exit__(self, *exception: object) -> None:
        self._journal.close()
        super().__exit__(*exception)

    def record(self, record: Answer | Phase | Loaded) -> None:
        """See ``DispatcherClient.record``."""
        match record:
            case Answer():
                self._journal.answer(record)
            case Phase():
                self._journal.phase(record.phase)
            case Loaded():
                self._journal.loaded(record.made_with)
        self._unconfirmed.append(record)
        try:
            super().record(record)
        except DispatcherGone:
            self._connect_again()  # which sends it

    def tell(self, items: Mapping[str, Sequence[Item]], chunk: int, at_once: int) -> None:
        """See ``DispatcherClient.tell``."""
        self._items = tuple(item for each in items.values() for item in each)
        try:
            super().tell(items, chunk, at_once)
            self._told = items, chunk, at_once
        except DispatcherGone:
            self._told = items, chunk, at_once
            self._connect_again()

    def ask(self, ahead: bool = False, wait: bool = True) -> Lease | None:
        """See ``DispatcherClient.ask``."""
        while True:
            try:
                lease = super().ask(ahead, wait)
                break
            except DispatcherGone:
                self._connect_again()
        self._unconfirmed.clear()
        if lease is not None:
            self._leases.add(lease.number)
            asked = [self._items[place] for place in lease.places]
            self._journal.leased(asked, len(asked), now=False, back=lease.returned)
        return lease

    def finish(self, lease: Lease, raised: Sequence[RaisedQuestion]) -> None:
        """See ``DispatcherClient.finish``."""
        for one in raised:
            self._journal.returned([self._items[one.place]], one.reason)
        self._end(lease, lambda: super(NodeClient, self).finish(lease, raised))

    def give_back(self, lease: Lease, reason: str) -> None:
        """See ``DispatcherClient.give_back``."""
        self._journal.returned([self._items[place] for place in lease.places], reason)
        self._end(lease, lambda: super(NodeClient, self).give_back(lease, reason))

    def _end(self, lease: Lease, send: Callable[[], None]) -> None:
        """Send that a lease is over; one of an earlier connection was taken back with it."""
        if lease.number not in self._leases:
            return
        self._leases.remove(lease.number)
        try:
            send()
        except DispatcherGone:
            self._connect_again()

    def _connect(self) -> None:
        super()._connect()
        # A machine without power sends nothing more: ask it when nothing comes.
        for option, seconds in (
            (socket.TCP_KEEPIDLE, BEAT),
            (socket.TCP_KEEPINTVL, BEAT),
            (socket.TCP_KEEPCNT, GONE_AFTER // BEAT),
            (socket.TCP_USER_TIMEOUT, 1000 * GONE_AFTER),
        ):
            self._socket.setsockopt(socket.IPPROTO_TCP, option, seconds)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _connect_again(self) -> None:
        """Make the connection again, and send what may not have arrived.

        Raises:
            DispatcherGone: It is not there within ``CONNECT_AGAIN_FOR`` seconds.
        """
        until = time.monotonic() + CONNECT_AGAIN_FOR
        while True:
            self._close()
            try:
                self._connect()
                self._leases.clear()
                if self._told is not None:
                    super().tell(*self._told)
                for record in self._unconfirmed:
                    super().record(record)
                return
            except (DispatcherGone, OSError, ValueError, KeyError, TypeError) as error:
                if time.monotonic() > until:
                    raise DispatcherGone from error
            time.sleep(0.5)
