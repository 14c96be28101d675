"""The dispatcher over sockets: strangers, malformed lines and killed workers harm nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from easi_eval.core.errors import EasiError
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine import dispatch_server
from easi_eval.engine.dispatch_client import VARIABLE, SocketClient, connect, proof
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal import Answer
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.lease import RaisedQuestion
from easi_eval.engine.work import Assignment, Item, Work

pytestmark = pytest.mark.faults
WORK = Work((Assignment("a", "A"),))
ITEMS = {"a": [Item("a", str(n)) for n in range(60)]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DispatchServer]:
    with DispatchServer(tmp_path, WORK) as running:
        yield running


def client(root: Path, name: str = "w0", work: Work = WORK) -> SocketClient:
    return SocketClient(root, work, name, 1)


def answer_all(root: Path, name: str) -> int:
    """Answer until no question is open; the number of answers."""
    count = 0
    with client(root, name) as dispatcher:
        dispatcher.tell(ITEMS, 1, 1)
        while not dispatcher.over:
            if lease := dispatcher.ask():
                for place in lease.places:
                    dispatcher.record(Answer("a", str(place), 0, name, 0.0, fence=lease.number))
                dispatcher.finish(lease, ())
                count += len(lease.places)
        dispatcher.phase("done")
    return count


def answers(root: Path) -> dict[str, str | None]:
    state = JournalState.of(root, WORK)
    state.poll()
    return {item: answer.text for (_, item), answer in state.answers.items()}


def stranger(root: Path) -> socket.socket:
    """A connection that has read the dispatcher's first line."""
    address = json.loads(RunPaths(root).dispatcher.read_text())
    connection = socket.create_connection((address["host"], address["port"]), timeout=20)
    assert "nonce" in json.loads(connection.makefile("rb").readline())
    return connection


def is_closed(connection: socket.socket) -> bool:
    try:
        while data := connection.recv(1 << 16):
            assert b"lease" not in data
    except ConnectionResetError:
        pass
    return True


def test_only_the_owner_reads_the_secret_and_it_goes_with_the_dispatcher(tmp_path: Path) -> None:
    with DispatchServer(tmp_path, WORK) as server:
        path = RunPaths(tmp_path).dispatcher
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        listening = subprocess.run(
            [sys.executable, "-c", "print(open('/proc/net/tcp').read())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        port = f":{json.loads(path.read_text())['port']:04X} "
        (line,) = [line for line in listening.splitlines() if port in line and " 0A " in line]
        assert line.split()[1].startswith("0100007F:"), "it listens on loopback only"
        assert server.secret in path.read_text()
    assert not path.exists()


def test_a_worker_waits_for_a_dispatcher_that_starts_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, the keeper of another rank has it."""
    monkeypatch.setenv(VARIABLE, "1")
    with ThreadPoolExecutor() as pool:
        connected = pool.submit(connect, tmp_path, WORK)
        time.sleep(0.2)
        assert not connected.done()
        with DispatchServer(tmp_path, WORK), connected.result(20) as dispatcher:
            dispatcher.tell(ITEMS, 1, 1)
            assert dispatcher.ask() is not None


# All that a worker says, but for the secret.
GUESSED = {
    **{"proof": proof("guessed", "worker", "0"), "nonce": "0", "worker": "w9", "attempt": 0},
    **{"host": "x", "pid": 1, "launch": WORK.launch, "stage": WORK.stage},
}


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b'{"type": "ask", "ahead": false, "wait": false}\n',
        b"x" * 5000,
        json.dumps(GUESSED).encode() + b"\n",
    ],
)
def test_a_stranger_is_given_nothing(tmp_path: Path, server: DispatchServer, line: bytes) -> None:
    with stranger(tmp_path) as connection:
        connection.sendall(line)
        assert is_closed(connection)
    assert answer_all(tmp_path, "w0") == 60


def test_who_proves_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: DispatchServer
) -> None:
    monkeypatch.setattr(dispatch_server, "PROVE_WITHIN", 0.2)
    with stranger(tmp_path) as connection:
        assert is_closed(connection)


def test_a_worker_of_another_stage_is_not_admitted(tmp_path: Path, server: DispatchServer) -> None:
    with pytest.raises(ValueError, match="not the dispatcher"):
        client(tmp_path, work=Work(WORK.benchmarks, stage=1))


def test_another_process_at_the_address_is_not_taken_for_the_dispatcher(
    tmp_path: Path, server: DispatchServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = {**json.loads(RunPaths(tmp_path).dispatcher.read_text())}
        place["port"] = listening.getsockname()[1]
        (tmp_path / "other").mkdir()
        (RunPaths(tmp_path / "other").dispatcher).write_text(json.dumps(place))
        answering = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); c, _ = s.accept();"
                'f = c.makefile("rwb"); f.write(b\'{"nonce": "1"}\\n\'); f.flush(); f.readline();'
                'f.write(b\'{"proof": "1"}\\n\'); f.flush()',
                str(listening.fileno()),
            ],
            pass_fds=[listening.fileno()],
        )
        with pytest.raises(ValueError, match="not the dispatcher"):
            client(tmp_path / "other")
        answering.wait(20)


@pytest.mark.parametrize("seed", range(8))
def test_a_worker_that_sends_garbage_ends_alone(
    tmp_path: Path, server: DispatchServer, seed: int
) -> None:
    """Its lease goes to the others."""
    rng = random.Random(seed)
    broken = client(tmp_path, "broken")
    broken.tell(ITEMS, 3, 1)
    assert broken.ask()
    line = rng.choice(
        [
            rng.randbytes(200).replace(b"\n", b"") + b"\n",
            b'{"kind":"lease","keys":[["a","1"]]}\n',
            b'{"kind":"answer"}\n',
            b'{"type":"finish","lease":99,"raised":[]}\n',
            b'{"type":"finish","lease":1,"raised":[[1]]}\n',
            b'{"type":"no such thing"}\n',
            b'{"type":"questions"}\n',
            b"null\n",
        ]
    )
    broken._socket.sendall(line)
    assert is_closed(broken._socket)
    assert answer_all(tmp_path, "w0") == 60
    assert set(answers(tmp_path)) == {item.id for item in ITEMS["a"]}


def test_other_questions_are_refused(tmp_path: Path, server: DispatchServer) -> None:
    with client(tmp_path) as first, client(tmp_path, "w1") as second:
        first.tell(ITEMS, 1, 1)
        assert first.ask()
        with pytest.raises(EasiError, match="other questions"):
            second.tell({"a": ITEMS["a"][:-1]}, 1, 1)


@pytest.mark.parametrize("killed", ["worker", "program"])
def test_a_kill_loses_only_what_was_in_hand(tmp_path: Path, killed: str) -> None:
    """A kill -9 in the middle of a lease of 50 questions; 20 are answered."""
    program = f"""
import os, sys, time
from pathlib import Path
from easi_eval.engine.dispatch_client import SocketClient
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal import Answer
from easi_eval.engine.work import Assignment, Item, Work
root, work = Path({str(tmp_path)!r}), Work((Assignment("a", "A"),))
items = {{"a": [Item("a", str(n)) for n in range(60)]}}
if {killed!r} == "program":
    DispatchServer(root, work).__enter__()
dispatcher = SocketClient(root, work, "killed", 1)
dispatcher.tell(items, 50, 1)
lease = dispatcher.ask()
for place in lease.places[:20]:
    dispatcher.record(Answer("a", str(place), 0, "killed", 0.0, fence=lease.number))
print(len(lease.places), flush=True)
time.sleep(60)
"""
    with contextlib.ExitStack() as serving:
        if killed == "worker":
            serving.enter_context(DispatchServer(tmp_path, WORK))
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"50\n"
            while len(answers(tmp_path)) < 20:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        if killed == "program":
            serving.enter_context(DispatchServer(tmp_path, WORK))
        assert answer_all(tmp_path, "heir") == 40
    texts = list(answers(tmp_path).values())
    assert (texts.count("killed"), texts.count("heir")) == (20, 40)


def test_a_worker_that_waits_is_given_what_another_one_gives_back(
    tmp_path: Path, server: DispatchServer
) -> None:
    one = {"a": ITEMS["a"][:1]}
    with client(tmp_path, "first") as first, client(tmp_path, "second") as second:
        first.tell(one, 1, 1)
        lease = first.ask()
        assert lease is not None
        second.tell(one, 1, 1)
        assert second.ask(wait=False) is None and not second.over
        first.finish(lease, [RaisedQuestion(0, "Oops: once")])
        again = second.ask()
        assert again is not None
        second.record(Answer("a", "0", 0, "second", 0.0, fence=again.number))
        second.finish(again, ())
        assert second.ask() is None and second.over
        assert first.ask() is None and first.over


def test_a_lost_dispatcher_ends_its_workers_with_a_hint(tmp_path: Path) -> None:
    with DispatchServer(tmp_path, WORK):
        dispatcher = client(tmp_path)
        dispatcher.tell(ITEMS, 1, 1)
    with pytest.raises(EasiError, match="dispatcher of this run is gone") as error:
        dispatcher.ask()
    assert "run the same command again" in (error.value.hint or "")


def test_a_journal_that_takes_no_more_ends_the_workers(tmp_path: Path) -> None:
    import resource

    with DispatchServer(tmp_path, WORK) as server:
        dispatcher = client(tmp_path)
        dispatcher.tell(ITEMS, 1, 1)
        lease = dispatcher.ask()
        assert lease is not None
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
        try:
            dispatcher.record(Answer("a", "0", 0, "x" * 500, 0.0, fence=lease.number))
            with pytest.raises(EasiError, match="could not be written"):
                dispatcher.ask()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert server.error is not None and "could not be written" in server.error.message
