"""The head's side of machines that join a run: who they are, what they do, whether they are alive.

A node is a process on another machine (``run/join.py``) that fetches data and weights itself and
starts workers there. The workers speak to the dispatcher over sockets of their own; this module
has one more connection to each node, of JSON lines, over which go the description of the run, the
launches, a line every ``BEAT`` seconds in both directions, and the small files that a run needs of
its workers (lists of questions, how they ended). No file system is shared and no clocks are
compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import queue
import re
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..core.atomic_files import replace_file
from ..core.events import NodeChanged
from ..core.redact import Redactor
from ..core.run_folder import RunPaths
from .dispatch_secret import BEAT, FIRST_LINE, GONE_AFTER, PROVE_WITHIN, proof
from .journal import Journal

LONGEST_LINE = 8 << 20  # bytes: a list of questions
# What a node may send, below the run folder.
_FILES = re.compile(
    r"items/[\w.()-]+\.json|journal/n\d+w\d+\.(ends|gaveup)|errors/[\w.-]+\.txt", re.ASCII
)
# What a node is at. ``DONE``: its workers of this launch have ended. ``LEAVING``: they take nothing
# more.
LOADING, WORKING, IDLE, DONE, LEAVING, LEFT = (
    "preparing",
    "at work",
    "idle",
    "done",
    "leaving",
    "left",
)
AT_WORK = (WORKING, LEAVING)


@dataclass(eq=False)
class Node:
    """A machine that joined.

    Attributes:
        name: ``n1``, ``n2``, ... in the order in which they came.
        host: Its own name.
        state: What it is at.
        workers: The most workers that it starts.
        place: Its GPUs, in words.
    """

    name: str
    host: str
    state: str = LOADING
    workers: int = 0
    place: str = ""
    _writer: asyncio.StreamWriter | None = field(default=None, repr=False)


class NodeServer:
    """Serves the nodes of a run from a thread of its own, while the context is open.

    Args:
        run_root: Folder of the run.
        secret: The run's secret.
        host: Address to listen on.
        most: Most nodes at a time.
        about: What a node is told of the run.
        lost: Called in that thread with a node's name when it is gone.
        leaves: Called in that thread with a node's name when it takes nothing more.
        has_lists: Whether this machine's own workers write the lists of questions; those of a node
            then replace none.
    """

    def __init__(
        self,
        run_root: Path,
        secret: str,
        host: str,
        most: int,
        about: dict[str, Any],
        lost: Callable[[str], None],
        leaves: Callable[[str], None],
        has_lists: bool = False,
    ) -> None:
        self.nodes: tuple[Node, ...] = ()  # replaced as a whole: other threads read it
        self.host = host
        self.secret = secret
        self._paths, self._most, self._about = RunPaths(run_root), most, about
        self._lost, self._leaves, self._has_lists = lost, leaves, has_lists
        self._news: queue.SimpleQueue[NodeChanged] = queue.SimpleQueue()
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._order: dict[str, Any] | None = None  # the launch that is going on
        self._last = 0  # number of the last new node
        self._redact = Redactor.from_environ({**os.environ, "JOIN_SECRET": secret}).line

    def __enter__(self) -> NodeServer:
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, self.host, 0, limit=LONGEST_LINE)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="easi-nodes", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """``HOST:PORT`` for ``--join``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def at_work(self) -> bool:
        """Whether a node has workers of this launch."""
        return any(node.state in AT_WORK for node in self.nodes)

    @property
    def any_loading(self) -> bool:
        """Whether a node prepares."""
        return any(node.state == LOADING for node in self.nodes)

    @property
    def any_done(self) -> bool:
        """Whether the workers of a node have ended in this launch."""
        return any(node.state == DONE for node in self.nodes)

    def news(self) -> list[NodeChanged]:
        """Who came and went since the last call."""
        return [self._news.get() for _ in range(self._news.qsize())]

    def started(self) -> int:
        """How many workers nodes have started since the last call."""
        return sum(self._started.get() for _ in range(self._started.qsize()))

    def launch(self, order: dict[str, Any] | None) -> None:
        """Have every node start workers, also those that join later; None: end them.

        Returns once their states are those of this launch, so that nobody takes the end of the last
        one for the end of this one.
        """
        asyncio.run_coroutine_threadsafe(self._launch(order), self._loop).result()

    def end(self) -> None:
        """Tell every node that the run is over, and take no others."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(GONE_AFTER)

    # ---- in the thread

    async def _launch(self, order: dict[str, Any] | None) -> None:
        self._order = order
        for node in self.nodes:
            self._give(node)

    def _give(self, node: Node) -> None:
        """Tell a node the launch, if it is ready."""
        idle = node.state == IDLE and self._order is None
        if idle or node.state in (LOADING, LEAVING, LEFT):
            return
        node.state = WORKING if self._order else IDLE
        self._send(node, {"type": "launch", "order": self._order})

    async def _close(self) -> None:
        self._server.close()
        for node in self.nodes:
            self._send(node, {"type": "over"})
            if node._writer is not None:
                node._writer.close()
        for task in asyncio.all_tasks(self._loop) - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node: Node | None = None
        try:
            node = await asyncio.wait_for(self._admit(reader, writer), PROVE_WITHIN)
            beats = asyncio.ensure_future(self._beat(node))
            try:
                while line := await asyncio.wait_for(reader.readline(), GONE_AFTER):
                    self._take(node, json.loads(line))
            finally:
                beats.cancel()
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            pass  # a stranger, or a node that went; OSError includes a timeout
        except asyncio.CancelledError:
            return  # the run is over
        finally:
            writer.transport.abort()
            if node is not None and node._writer is writer:
                before, self.nodes = self.nodes, tuple(n for n in self.nodes if n is not node)
                self._lost(node.name)
                if node in before and node.state != LEFT:  # else it has a new connection
                    self._tell(node, "is gone", "gone")

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Node:
        nonce = secrets.token_hex(16)
        writer.write(json.dumps({"nonce": nonce}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            if len(line) > FIRST_LINE or not (data := await reader.read(FIRST_LINE)):
                raise ValueError("this is no node")
            line += data
        message = json.loads(line)
        if not hmac.compare_digest(proof(self.secret, "node", nonce), str(message["proof"])):
            raise ValueError("it does not know the secret")
        host = str(message["host"])
        name = str(message["node"])  # of one whose connection broke
        if not re.fullmatch(r"(n\d+)?", name):
            raise ValueError("no name of a node")
        known = next((node for node in self.nodes if node.name == name), None)
        answer: dict[str, Any] = {"proof": proof(self.secret, "head", str(message["nonce"]))}
        if known is None and len(self.nodes) >= self._most:
            answer["refused"] = f"this run already has {self._most} nodes"
        if not name:
            self._last += 1
            name = f"n{self._last}"
        node = Node(name, host)
        said = json.dumps({**answer, "node": node.name, "about": self._about}).encode() + b"\n"
        if "refused" in answer:
            writer.write(said)
            raise ValueError("no more nodes")
        if known is not None:  # this side has not noticed yet
            node.state, node.workers, node.place = known.state, known.workers, known.place
            assert known._writer is not None
            known._writer.transport.abort()
        else:
            self._tell(node, "is back" if message["node"] else "is preparing data and weights")
        node._writer = writer
        self.nodes = (*(each for each in self.nodes if each is not known), node)
        writer.write(said)  # last: a node that has it is one of ``nodes``
        return node

    async def _beat(self, node: Node) -> None:
        while True:
            self._send(node, {"type": "beat"})
            await asyncio.sleep(BEAT)

    def _send(self, node: Node, message: dict[str, Any]) -> None:
        if node._writer is not None:
            node._writer.write(json.dumps(message).encode() + b"\n")

    def _tell(self, node: Node, text: str, state: str = "") -> None:
        level = "info" if state in ("", LEAVING) else "warning"
        self._news.put(
            NodeChanged(
                f"node {node.name} ({node.host}) {text}",
                level,
                node.name,
                node.host,
                node.place,
                state,
            )
        )

    def _take(self, node: Node, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ready":
                node.place, node.state = str(message["place"]), IDLE
                node.workers = int(message["nproc"])
                self._tell(node, f"joined: {node.place}")
                self._give(node)
            case "resumed":  # the connection broke, and its workers went on
                node.place, node.workers = str(message["place"]), int(message["nproc"])
                if self._order and message["number"] == self._order["number"]:
                    node.state = WORKING if message["workers"] else DONE
                else:  # what it was told meanwhile is lost
                    node.state = WORKING
                    self._give(node)
            case "started":
                if self._order and message["number"] == self._order["number"]:
                    self._started.put(int(message["workers"]))
            case "ended":
                if self._order and message["number"] == self._order["number"]:
                    node.state = LEAVING if node.state == LEAVING else DONE
            case "leaving":
                if node.state != LEAVING:
                    self._tell(node, "takes no more questions: its time limit is near", LEAVING)
                node.state = LEAVING
                self._leaves(node.name)
            case "left":
                node.state = LEFT
                self._tell(node, text := f"left: {message['reason']}", text)
            case "file":
                self._keep(str(message["name"]), str(message["text"]))
            case "hung":
                worker = str(message["worker"])
                if not re.fullmatch(rf"{node.name}w\d+", worker):
                    raise ValueError("another node's worker")
                keys = [(str(benchmark), str(item)) for benchmark, item in message["keys"]]
                with Journal(
                    self._paths.journal, worker, int(message["attempt"]), int(message["launch"])
                ) as journal:
                    journal.hung(keys, float(message["seconds"]))
            case "log":
                folder = self._paths.root / "nodes"
                folder.mkdir(exist_ok=True)
                with (folder / f"{node.name}.log").open("a", encoding="utf-8") as log:
                    # Its machine knows its own secrets, this one those of the run.
                    log.writelines(f"{self._redact(one)}\n" for one in message["text"].split("\n"))

    def _keep(self, name: str, text: str) -> None:
        """Write a small file of a node, if it is one that a run has."""
        if not _FILES.fullmatch(name):
            raise ValueError("no such file")
        path, data = self._paths.root / name, text.encode("utf-8", "surrogatepass")
        with contextlib.suppress(FileNotFoundError):
            own = self._has_lists and path.parent == self._paths.items
            if path.read_bytes() == data or own:
                return
        path.parent.mkdir(exist_ok=True)
        replace_file(path, data)


def _address(name: str) -> str:
    return str(socket.getaddrinfo(name, None)[0][4][0])


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


def loopback_of(name: str) -> str:
    """The address of a name if it is one of the loopback interface, else "".

    Raises:
        OSError: The name has no address.
    """
    address = _address(name)
    return address if _is_loopback(address) else ""


def own_address(name: str = "") -> str:
    """The address at which other machines reach the one of this name, by default this one.

    Debian gives a machine's own name the address 127.0.1.1. Then it is that of the interface of the
    default route.

    Raises:
        OSError: There is none.
    """
    address = _address(name or socket.gethostname())
    if not _is_loopback(address):
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation; nothing is sent
        return str(probe.getsockname()[0])
