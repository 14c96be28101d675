"""A node's connection to the head of its run; the other side is ``nodes.py``."""

from __future__ import annotations

import json
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..core.errors import EasiError
from .dispatch_secret import BEAT, CONNECT_AGAIN_FOR, CONNECT_WITHIN, GONE_AFTER, proof

LONGEST_LINE = 64 << 20  # bytes


class NodeRefused(EasiError):
    """The head does not take this node."""


class NodeLink:
    """A connection that is made again when it breaks; a context that closes it.

    A thread reads what the head sends and writes a line every ``BEAT`` seconds, so that the head
    knows that this machine is there whatever the workers do.

    Attributes:
        host: Name or address of the head.
        secret: The run's secret.
        name: The name that the head gave to this node.
        about: What the head told of the run.
        connections: How often the connection was made.
        gone: Whether the head is gone for good.
        over: Whether the head has ended the run.

    Args:
        host: Name or address of the head.
        port: The head's port for nodes.
        secret: The run's secret.
        ended: Called in the thread when ``gone`` or ``over`` becomes true.

    Raises:
        EasiError: The head cannot be reached, refuses this node, or does not know the secret.
    """

    def __init__(
        self, host: str, port: int, secret: str, ended: Callable[[], object] = bool
    ) -> None:
        self.host, self._port, self.secret = host, port, secret
        self.name = ""
        self.about: dict[str, Any] = {}
        self.connections = 0
        self.gone = self.over = False
        self._ended = ended
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._closing = False
        self._heard = 0.0  # when the head's last line came
        self._writing = threading.Lock()
        try:
            self._connect()
        except (OSError, ValueError, KeyError) as error:
            raise EasiError(
                f"no run that can be joined answers at {host}:{port}: {error}",
                hint="start the run with --nodes first, and copy the line that it prints",
            ) from error
        self._thread = threading.Thread(target=self._follow, name="easi-head", daemon=True)

    def __enter__(self) -> NodeLink:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()
        self._thread.join(GONE_AFTER)

    def send(self, **message: Any) -> None:
        """Send a line; lost if the connection is broken (see ``connections``).

        After a part of a line no other can be sent: the connection is made again.
        """
        try:
            with self._writing:
                try:
                    self._socket.sendall(json.dumps(message).encode() + b"\n")
                except OSError:
                    self._socket.shutdown(socket.SHUT_RDWR)  # the thread notices
        except OSError:
            pass  # it is closed already

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The head's next message, waiting at most so long; None if there is none."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return None

    def _connect(self, within: float = CONNECT_WITHIN) -> None:
        connection = socket.create_connection((self.host, self._port), timeout=within)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_AFTER)
        lines = _Lines(connection)
        nonce = secrets.token_hex(16)
        try:
            theirs = json.loads(lines.one())["nonce"]
            hello = {
                "proof": proof(self.secret, "node", theirs),
                "nonce": nonce,
                "host": socket.gethostname(),
                "node": self.name,
            }
            connection.sendall(json.dumps(hello).encode() + b"\n")
            if not (line := lines.one()):
                raise NodeRefused(
                    "the run's head does not know this secret",
                    hint="set EASI_JOIN_SECRET to the content of the file that the head names",
                )
            answer = json.loads(line)
            if answer.get("proof") != proof(self.secret, "head", nonce):
                raise ValueError("what listens there is not the head of the run")
            if "refused" in answer:
                raise NodeRefused(str(answer["refused"]), hint="start the run with more --nodes")
        except BaseException:
            connection.close()
            raise
        self.name, self.about = str(answer["node"]), answer["about"]
        self._socket, self._lines = connection, lines
        self._socket.settimeout(float(BEAT))
        self.connections += 1

    def _follow(self) -> None:
        """Read and beat until the head is gone for good."""
        while not self._closing:
            self._read()
            if self.over:
                return
            if not self._closing and not self._connect_again():
                self.gone = True
                self._ended()
                return

    def _read(self) -> None:
        """Read until the connection breaks, or nothing has come for ``GONE_AFTER`` seconds."""
        self._heard, beaten = time.monotonic(), 0.0
        while not self._closing and time.monotonic() - self._heard < GONE_AFTER:
            if time.monotonic() - beaten >= BEAT:
                self.send(type="beat")
                beaten = time.monotonic()
            try:
                if not (line := self._lines.one()):
                    return
                message = json.loads(line)
            except TimeoutError:
                continue
            except (OSError, ValueError):
                return
            self._heard = time.monotonic()
            if message["type"] != "beat":
                self._messages.put(message)
            if message["type"] == "over":
                self.over = True
                self._ended()

    def _connect_again(self) -> bool:
        """Make the connection again; False if that is impossible.

        The time for it counts from the head's last line, and limits an attempt, too: a machine
        without power answers none.
        """
        self._socket.close()
        refusals, until = 0, self._heard + CONNECT_AGAIN_FOR
        while not self._closing and (left := until - time.monotonic()) > 0:
            try:
                self._connect(min(left, CONNECT_WITHIN))
                return True
            except NodeRefused:
                return False
            except ConnectionRefusedError:
                # The machine is there and nothing listens: the head has ended.
                refusals += 1
                if refusals > 2:
                    return False
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.5)
        return self._closing


class _Lines:
    """The lines that come over a socket; a timeout loses nothing of one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._rest = connection, b""

    def one(self) -> bytes:
        """The next line; empty at the end.

        Raises:
            TimeoutError: It did not come within the socket's timeout.
            OSError: The connection is broken.
            ValueError: It is too long.
        """
        while b"\n" not in self._rest:
            if len(self._rest) > LONGEST_LINE:
                raise ValueError("a line without an end")
            if not (data := self._socket.recv(1 << 16)):
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line
