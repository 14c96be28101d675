"""Lets the workers of other processes speak to the dispatcher: JSON lines over one socket each.

The address and a secret are in a file of the run folder that only its owner can read. A worker
first proves by an HMAC that it knows the secret, and so does the dispatcher. A malformed or an
oversized line ends that connection alone. A socket that closes is a worker that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ..core.atomic_files import write_json
from ..core.errors import EasiError
from ..core.run_folder import RunPaths
from .dispatch_secret import FIRST_LINE, PROVE_WITHIN, proof
from .dispatcher import Broken, Dispatcher, Member
from .journal import Answer, Loaded, Phase, decode
from .lease import Lease, RaisedQuestion
from .work import Item, Work

_T = TypeVar("_T")
LONGEST_LINE = 256 << 20  # bytes, of a known worker; the list of all questions is one line
TICK = 0.2  # seconds between two looks at workers that wait
SYNC_EVERY = 1.0  # seconds between two writes of the journal to the disk


class DispatchServer:
    """Serves one dispatcher from a thread of its own, while the context is open.

    Attributes:
        error: Why the journal can take nothing any more; the workers are told, too.

    Args:
        run_root: Folder of the run.
        work: The work of the launch and stage.
        host: Address to listen on.
        secret: The run's secret; a new one if it is empty.
    """

    def __init__(
        self, run_root: Path, work: Work, host: str = "127.0.0.1", secret: str = ""
    ) -> None:
        self.dispatcher = Dispatcher(run_root, work)
        self.error: EasiError | None = None
        self.secret = secret or secrets.token_hex(32)
        self._file, self._host = RunPaths(run_root).dispatcher, host
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self.retired: set[str] = set()  # beginnings of workers' names
        self._synced = 0.0

    def __enter__(self) -> DispatchServer:
        self._server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), self._host, 0)
        )
        host, self.port = self._server.sockets[0].getsockname()[:2]
        write_json(self._file, {"host": host, "port": self.port, "secret": self.secret}, mode=0o600)
        self._thread = threading.Thread(target=self._serve, name="easi-dispatcher", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.unlink(missing_ok=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def serves(self) -> bool:
        """Whether a worker is connected."""
        return bool(self._connections)

    def leave_out(self, keys: Collection[str]) -> None:
        """Ask no more questions of these benchmarks; may be called from any thread."""
        self._soon(self.dispatcher.leave_out, frozenset(keys))

    def retire_node(self, node: str) -> None:
        """Give the workers of this node nothing more; may be called from any thread."""
        self._soon(self.retired.add, f"{node}w")

    def retire_all(self) -> None:
        """Give no worker anything more; may be called from any thread."""
        self._soon(self.retired.add, "")

    def drop_node(self, node: str) -> None:
        """Take the workers of this node for gone; may be called from any thread."""
        self._soon(self._drop, f"{node}w")

    def _soon(self, call: Callable[[_T], object], value: _T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is handed out
            self._loop.call_soon_threadsafe(call, value)

    def _drop(self, workers: str) -> None:
        for connection in [each for each in self._connections if each.is_worker(workers)]:
            connection.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._tick)
        try:
            self._loop.run_forever()
        finally:
            for connection in list(self._connections):
                connection.end()
            self._server.close()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
            with contextlib.suppress(OSError):
                self.dispatcher.close()

    def _tick(self) -> None:
        """Serve workers that wait for something that time brings, and write to the disk."""
        self._loop.call_later(TICK, self._tick)  # first: an error below must not end the ticks
        self.serve_waiting()
        if self._loop.time() - self._synced > SYNC_EVERY:
            self._synced = self._loop.time()
            with self.failing():
                self.dispatcher.sync()

    def serve_waiting(self) -> None:
        """Answer those who asked for a lease and got none so far."""
        for connection in [each for each in self._connections if each.waiting is not None]:
            connection.try_lease()

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Keep the error of a journal that cannot be written, for the workers and the program."""
        try:
            yield
        except OSError as error:
            self.error = EasiError(
                f"the journal could not be written: {error}",
                hint="free space there and start again",
            )
        except EasiError as error:
            self.error = error


class _Connection(asyncio.Protocol):
    """A worker's socket."""

    def __init__(self, server: DispatchServer) -> None:
        self._server, self._dispatcher = server, server.dispatcher
        self._nonce = secrets.token_hex(16)
        self._rest = bytearray()
        self._member: Member | None = None
        self._transport: asyncio.Transport | None = None
        self.waiting: dict[str, Any] | None = None  # the request that has no answer yet

    # ---- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._connections.add(self)
        asyncio.get_running_loop().call_later(PROVE_WITHIN, self._must_be_known)
        self._send({"nonce": self._nonce})

    def data_received(self, data: bytes) -> None:
        self._rest += data
        *lines, rest = self._rest.split(b"\n") if b"\n" in data else [self._rest]
        self._rest = bytearray(rest)
        try:
            for line in lines:
                if self._transport is not None:
                    self._take(bytes(line))
            if len(self._rest) > (LONGEST_LINE if self._member else FIRST_LINE):
                raise ValueError("the line is too long")
        except (ValueError, KeyError, TypeError, IndexError):
            self.close()  # a worker sends none of this; whoever it is ends alone
        if self._dispatcher.over or self._dispatcher.came_back:
            self._server.serve_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        self._server._connections.discard(self)
        self._transport = None
        self.waiting = None
        if (member := self._member) is not None:
            self._member = None
            with self._server.failing():
                self._dispatcher.gone(member)
            self._server.serve_waiting()

    def is_worker(self, prefix: str) -> bool:
        """Whether this is a worker whose name begins so."""
        return self._member is not None and self._member.name.startswith(prefix)

    def end(self) -> None:
        """End this connection with the dispatcher: nothing is handed out again."""
        self._member = None
        self.close()

    def close(self) -> None:
        """End this connection; what its worker holds goes to the others."""
        if self._transport is not None:
            self._transport.abort()

    def _must_be_known(self) -> None:
        if self._member is None:
            self.close()

    # ---- messages

    def _take(self, line: bytes) -> None:
        if self._member is None:
            return self._admit(json.loads(line))
        if line.startswith(b'{"kind"'):
            record = decode(line)
            if not isinstance(record, Answer | Phase | Loaded):
                raise ValueError("a worker sends no such record")
            with self._server.failing():
                self._dispatcher.record(self._member, record)
            return None
        message = json.loads(line)
        with self._server.failing():
            match message["type"]:
                case "questions":
                    self._questions(message)
                case "items":
                    items = {
                        key: [Item(key, item, cost) for item, cost in each]
                        for key, each in message["items"]
                    }
                    self._dispatcher.learn(items, int(message["chunk"]))
                case "ask":
                    self.waiting = message
                    self.try_lease()
                case "finish":
                    raised = [RaisedQuestion(*one) for one in message["raised"]]
                    self._dispatcher.finish(self._member, int(message["lease"]), raised)
                case "give back":
                    self._dispatcher.give_back(
                        self._member, int(message["lease"]), str(message["reason"])
                    )
                case _:
                    raise ValueError("no such message")
        return None

    def _admit(self, message: dict[str, Any]) -> None:
        """The first line of a worker: its proof, and who it is."""
        secret, work = self._server.secret, self._dispatcher.work
        if not hmac.compare_digest(proof(secret, "worker", self._nonce), str(message["proof"])):
            raise ValueError("it does not know the secret")
        if (message["launch"], message["stage"]) != (work.launch, work.stage):
            raise ValueError("it belongs to another launch")
        with self._server.failing():
            self._member = self._dispatcher.join(
                str(message["worker"]),
                int(message["attempt"]),
                str(message["host"]),
                int(message["pid"]),
            )
        self._send({"proof": proof(secret, "dispatcher", str(message["nonce"]))})

    def _questions(self, message: dict[str, Any]) -> None:
        assert self._member is not None
        self._member.at_once = int(message["at_once"])
        try:
            self._send({"known": self._dispatcher.knows(str(message["digest"]))})
        except EasiError as error:
            self._send({"error": error.message, "hint": error.hint})

    def try_lease(self) -> None:
        """Answer the request for a lease, if there is an answer now."""
        message, member = self.waiting, self._member
        if message is None or member is None:
            return
        if (error := self._server.error) is not None:
            return self._reply({"error": error.message, "hint": error.hint})
        if member.name.startswith(tuple(self._server.retired)):
            return self._reply({"over": True})
        with self._server.failing():
            given = self._dispatcher.ask(member, bool(message["ahead"]))
            if isinstance(given, Lease):
                self._reply({"lease": [given.number, given.places, given.returned, given.upcoming]})
            elif isinstance(given, Broken):
                self._reply({"broken": given.reason})
            elif self._dispatcher.over:
                self._reply({"over": True})
            elif not message["wait"]:
                self._reply({"lease": None})
        return None

    def _reply(self, value: dict[str, Any]) -> None:
        self.waiting = None
        self._send(value)

    def _send(self, value: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(json.dumps(value).encode() + b"\n")
