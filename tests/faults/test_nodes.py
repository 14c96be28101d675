"""Machines that join a run, on one machine: strangers, wrong secrets, lost connections."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from easi_eval.cluster.slurm import own_job, script_of
from easi_eval.config import RunConfig
from easi_eval.core.errors import EasiError
from easi_eval.core.run_folder import RunPaths
from easi_eval.engine.dispatch_client import NodeClient
from easi_eval.engine.dispatch_secret import (
    BEAT,
    CONNECT_AGAIN_FOR,
    CONNECT_WITHIN,
    GONE_AFTER,
    proof,
)
from easi_eval.engine.dispatch_server import DispatchServer
from easi_eval.engine.journal import Answer, Leased, Tail
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.node_link import NodeLink, NodeRefused
from easi_eval.engine.nodes import NodeServer, loopback_of, own_address
from easi_eval.engine.processes.interrupts import interruptible, time_limit
from easi_eval.engine.work import Assignment, Item, Work

pytestmark = pytest.mark.faults
SECRET = "a secret of this test"
HERE = "127.0.0.1"
WORK = Work((Assignment("a", "A"),))
ITEMS = {"a": [Item("a", str(n)) for n in range(6)]}


@contextmanager
def head(root: Path, most: int = 4) -> Iterator[tuple[NodeServer, list[str]]]:
    gone: list[str] = []
    with NodeServer(
        root, SECRET, HERE, most, {"what": "a run"}, gone.append, gone.append
    ) as server:
        yield server, gone


def wait_for(true: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def stranger(server: NodeServer) -> tuple[socket.socket, str]:
    """A connection, and the head's nonce."""
    connection = socket.create_connection((HERE, server.port), timeout=20)
    return connection, json.loads(connection.makefile("rb").readline())["nonce"]


def joined(server: NodeServer, name: str = "") -> socket.socket:
    """A connection of a node, which the head has taken; it does only what the test does."""
    connection, nonce = stranger(server)
    hello = {"proof": proof(SECRET, "node", nonce), "nonce": "", "host": "x", "node": name}
    before = server.nodes
    connection.sendall(json.dumps(hello).encode() + b"\n")
    wait_for(lambda: server.nodes != before)
    return connection


def greeted(listening: socket.socket, ended: Callable[[], object] = bool) -> tuple[NodeLink, Any]:
    """A node, and its connection at a false head that knows the secret and says nothing more."""

    def greet() -> socket.socket:
        connection, _ = listening.accept()
        connection.sendall(b'{"nonce": "00"}\n')
        line = connection.makefile("rb").readline()
        assert SECRET.encode() not in line
        nonce = json.loads(line)["nonce"]
        hello = {"proof": proof(SECRET, "head", nonce), "node": "n1", "about": {}}
        connection.sendall(json.dumps(hello).encode() + b"\n")
        return connection

    with ThreadPoolExecutor() as pool:
        connection = pool.submit(greet)
        return NodeLink(HERE, listening.getsockname()[1], SECRET, ended), connection.result()


def is_closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_node_learns_of_the_run_and_gets_each_launch(tmp_path: Path) -> None:
    with head(tmp_path) as (server, gone), NodeLink(HERE, server.port, SECRET) as link:
        assert (link.name, link.about) == ("n1", {"what": "a run"})
        server.launch({"number": 1})
        assert link.next(0.5) is None  # it is not ready
        link.send(type="ready", place="2 workers", nproc=2)
        assert link.next(20) == {"type": "launch", "order": {"number": 1}}
        assert server.at_work
        link.send(type="ended", number=1)
        wait_for(lambda: server.any_done)
        assert not server.at_work
        link.send(type="left", reason="it was told to")
        wait_for(lambda: any("left: it was told to" in one.text for one in server.news()))
    assert gone == ["n1"]


def test_a_wrong_secret_is_refused_by_both_sides(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _):
        with pytest.raises(NodeRefused, match="does not know this secret") as refused:
            NodeLink(HERE, server.port, "another secret")
        assert "EASI_JOIN_SECRET" in refused.value.hint
        assert not server.nodes
        with NodeLink(HERE, server.port, SECRET) as link:
            assert link.name == "n1"


def test_what_does_not_know_the_secret_is_no_head() -> None:
    with socket.create_server((HERE, 0)) as false:
        false.settimeout(20)
        port = false.getsockname()[1]

        def serve() -> None:
            connection, _ = false.accept()
            connection.sendall(b'{"nonce": "00"}\n')
            connection.recv(1 << 16)
            connection.sendall(b'{"proof": "guessed", "node": "n1", "about": {}}\n')

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(EasiError, match="is not the head"):
            NodeLink(HERE, port, SECRET)
        server.join()


def test_a_node_too_many_is_refused(tmp_path: Path) -> None:
    with head(tmp_path, most=1) as (server, _), NodeLink(HERE, server.port, SECRET):
        with pytest.raises(NodeRefused, match="already has 1 nodes"):
            NodeLink(HERE, server.port, SECRET)
        assert len(server.nodes) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xff\n",
        b"[]\n",
        b'{"proof": 1, "nonce": 2}\n',
    ],
)
def test_strangers_harm_nobody(line: bytes, tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        connection, _ = stranger(server)
        connection.sendall(line)
        assert is_closed(connection)
        link.send(type="ready", place="1 worker", nproc=2)
        server.launch({"number": 1})
        assert link.next(20) == {"type": "launch", "order": {"number": 1}}


def test_a_line_without_an_end_is_not_read(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        connection, _ = stranger(server)
        with pytest.raises(OSError, match="reset|pipe"):
            for _ in range(40):
                connection.sendall(b"x" * 100_000)
        link.send(type="ready", place="1 worker", nproc=2)
        wait_for(lambda: server.nodes[0].place)


@pytest.mark.parametrize(
    "name",
    ["../outside.txt", "items/../../x.json", "run_manifest.json", "journal/w0.ends", "/etc/x.json"],
)
def test_a_node_writes_no_other_files(name: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    with head(root) as (server, gone):
        connection = joined(server)
        told = {"type": "file", "name": "items/a.json", "text": "{}"}
        connection.sendall(json.dumps(told).encode() + b"\n")
        wait_for((root / "items" / "a.json").exists)
        connection.sendall(json.dumps({**told, "name": name}).encode() + b"\n")
        assert is_closed(connection)
        wait_for(lambda: gone)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.json"]


def test_a_node_tells_of_its_own_workers_only_that_they_hung(tmp_path: Path) -> None:
    journal = RunPaths(tmp_path).journal
    told = {"type": "hung", "attempt": 0, "launch": 1, "keys": [["a", "0"]], "seconds": 5}
    with head(tmp_path) as (server, _):
        connection = joined(server)
        for worker in ("n1w0", "w0"):
            connection.sendall(json.dumps({**told, "worker": worker}).encode() + b"\n")
        assert is_closed(connection)
    assert [path.name[:4] for path in journal.iterdir()] == ["n1w0"]


def test_a_node_that_is_silent_is_gone(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        head(tmp_path) as (server, gone),
        NodeLink(HERE, server.port, SECRET) as link,
        socket.create_server((HERE, 0)) as false,
        joined(server),
    ):
        alone, _held = greeted(false)
        with alone:
            wait_for(lambda: gone, GONE_AFTER + 30)
            assert time.monotonic() - began >= GONE_AFTER
            false.settimeout(30)
            again, _ = false.accept()  # and so is a silent head: its node tries to connect again
            false.close()
            again.close()
            time.sleep(2 * BEAT)
        # The other one sent and got nothing but signs of life.
        assert gone == ["n2"] and [node.name for node in server.nodes] == ["n1"]
        assert link.connections == 1


def test_a_node_whose_old_connection_ends_late_is_not_said_to_be_gone(tmp_path: Path) -> None:
    with head(tmp_path) as (server, gone), joined(server), joined(server, "n1"):
        wait_for(lambda: gone)  # its workers connect again, too
        assert [node.name for node in server.nodes] == ["n1"]
        assert [one.text for one in server.news()] == ["node n1 (x) is preparing data and weights"]


def test_a_head_without_power_is_gone_in_time() -> None:
    """It answers nothing, not even a connection: the time for trying limits the last attempt."""
    with socket.create_server((HERE, 0), backlog=0) as false:
        link, _ = greeted(false)
        waiting = socket.create_connection(
            false.getsockname()
        )  # the system answers no more than this
        link._heard = time.monotonic() - CONNECT_AGAIN_FOR + 1
        began = time.monotonic()
        assert not link._connect_again()
        assert time.monotonic() - began < CONNECT_WITHIN - 1
        waiting.close()


def test_a_node_notices_that_its_head_is_gone(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _):
        link = NodeLink(HERE, server.port, SECRET)
    with link:
        wait_for(lambda: link.over or link.gone)  # the last word may have been lost


def test_a_run_that_ends_tells_its_nodes_at_once(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        link.send(type="ready", place="2 workers", nproc=2)
        server.launch({"number": 1})
        assert link.next(20) == {"type": "launch", "order": {"number": 1}}
        server.end()  # the workers of the head's machine still end
        assert link.next(20) == {"type": "over"} and link.over
        with pytest.raises(EasiError, match="no run that can be joined"):
            NodeLink(HERE, server.port, SECRET)


def test_who_prepares_is_told_that_the_head_is_gone() -> None:
    told = threading.Event()
    with socket.create_server((HERE, 0)) as false:
        link, connection = greeted(false, told.set)
        connection.close()
    with link:
        assert told.wait(CONNECT_AGAIN_FOR - 8) and link.gone and not link.over


def break_link(server: NodeServer, link: NodeLink) -> None:
    """Cut the connection as the network does, and wait until it was made again."""
    before, nodes = link.connections, server.nodes
    link._socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: link.connections > before and server.nodes and server.nodes != nodes)


def test_a_launch_that_a_broken_link_lost_is_told_again(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        link.send(type="ready", place="2 workers", nproc=2)
        server.launch({"number": 1})
        assert link.next(20) == {"type": "launch", "order": {"number": 1}}
        break_link(server, link)
        server.launch({"number": 2})  # the node has not said yet what it is at
        link.send(type="resumed", place="2 workers", nproc=2, workers=2, number=1)
        assert link.next(20) == {"type": "launch", "order": {"number": 2}}
        assert server.nodes[0].place == "2 workers"
        # The word that it has ended was lost, too.
        break_link(server, link)
        link.send(type="resumed", place="2 workers", nproc=2, workers=0, number=2)
        wait_for(lambda: server.any_done)
        assert not server.at_work


def test_a_launch_forgets_at_once_who_ended_the_last_one(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        assert server.any_loading and not server.at_work
        link.send(type="ready", place="", nproc=2)
        for number in range(1, 20):
            server.launch({"number": number})
            if number > 1:
                assert server.at_work and not server.any_done
            assert link.next(20) == {"type": "launch", "order": {"number": number}}
            link.send(type="ended", number=number)
            wait_for(lambda: server.any_done)


def test_the_log_of_a_node_has_no_secret(tmp_path: Path) -> None:
    with head(tmp_path) as (server, _), NodeLink(HERE, server.port, SECRET) as link:
        link.send(type="log", text=f"one {SECRET} two\nthree")
        log = tmp_path / "nodes" / "n1.log"
        wait_for(lambda: log.exists() and "three" in log.read_text())
        assert log.read_text() == "one [redacted] two\nthree\n"


def test_a_machine_is_reached_at_no_loopback_address() -> None:
    try:
        address = own_address("localhost")
    except OSError:
        return  # it has no route to anywhere, which the run says
    assert not address.startswith("127.")


def test_a_name_of_the_loopback_interface_is_known() -> None:
    assert loopback_of("localhost") in ("127.0.0.1", "::1")
    assert loopback_of("127.0.1.1") == "127.0.1.1" and loopback_of("192.0.2.7") == ""


@contextmanager
def follower(folder: Path, **programs: str) -> Iterator[subprocess.Popen[str]]:
    """The process that follows a job, with these programs in place of Slurm's."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    command = [sys.executable, "-m", "easi_eval.cluster.array", str(folder / "state"), "sbatch"]
    folders = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **folders},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        yield job


def test_a_job_that_is_being_submitted_is_cancelled(tmp_path: Path) -> None:
    """SIGTERM while sbatch runs, to both as the guard sends it; a second one while scancel runs."""
    with follower(
        tmp_path,
        sbatch="touch submitting; sleep 1; echo 4711",
        squeue='echo "4711_0|RUNNING|None"',
        scancel='touch cancelling; sleep 1; echo "$@" > cancelled',
    ) as job:
        for sign in ("submitting", "cancelling"):
            wait_for((tmp_path / sign).exists)
            os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(30) == 128 + signal.SIGTERM
    assert (tmp_path / "cancelled").read_text() == "4711\n"


def test_a_requeued_task_is_started_and_a_lost_job_is_said(tmp_path: Path) -> None:
    """A task that has not run yet waits for the time that its user gave."""
    states = [("RUNNING", "None"), *[("PENDING", "BeginTime")] * 2, None]
    for number, state in enumerate(states):
        told = [f"4711_0|{state[0]}|{state[1]}", "4711_1|PENDING|BeginTime"] if state else []
        (tmp_path / f"{number}.txt").write_text("\n".join(told))
    with follower(
        tmp_path,
        sbatch="echo 4711",
        squeue="for n in 0 1 2 3; do [ -e $n.txt ] && break; done; cat $n.txt; "
        "[ $n = 3 ] || rm $n.txt",
        scontrol='echo "$@" >> told',
        scancel="true",
    ) as job:
        out, _ = job.communicate(timeout=200)
        assert job.returncode == 0
    assert (tmp_path / "told").read_text() == "update JobId=4711_0 StartTime=now\n"
    assert out == "job 4711\nerror: Slurm has no job 4711 any more; was it cancelled?\n"


@pytest.mark.parametrize("slurm", ["--comment='open", "@/nowhere/site.sbatch"])
def test_options_of_slurm_that_cannot_be_read_are_refused(slurm: str) -> None:
    with pytest.raises(EasiError, match="--slurm: "):
        script_of(RunConfig(smoke=True, slurm=slurm))


def test_the_lists_of_the_heads_own_workers_stand(tmp_path: Path) -> None:
    own = tmp_path / "items" / "a.json"
    own.parent.mkdir()
    own.write_text("own")
    with (
        NodeServer(tmp_path, SECRET, HERE, 1, {}, print, print, has_lists=True) as server,
        NodeLink(HERE, server.port, SECRET) as link,
    ):
        for name in ("items/a.json", "items/b.json"):
            link.send(type="file", name=name, text="other")
        wait_for((tmp_path / "items" / "b.json").exists)
    assert own.read_text() == "own"


def test_a_closed_dispatcher_hands_out_nothing(tmp_path: Path) -> None:
    with DispatchServer(tmp_path, WORK, HERE, SECRET) as server:
        pass
    server.drop_node("n1")
    server.retire_node("n1")


def node_client(server: DispatchServer, root: Path, name: str) -> NodeClient:
    """A worker of a node, whose folder is not that of the run."""
    address = {"host": HERE, "port": server.port, "secret": server.secret}
    root.mkdir(exist_ok=True)
    RunPaths(root).dispatcher.write_text(json.dumps(address))
    return NodeClient(root, WORK, name, 1)


def answer(client: NodeClient, place: int, fence: int) -> None:
    client.record(Answer("a", str(place), 0, f"{place}", 0.0, fence=fence))


def test_a_lost_connection_loses_and_repeats_nothing(tmp_path: Path) -> None:
    run, node = tmp_path / "run", tmp_path / "node"
    with (
        DispatchServer(run, WORK, HERE, SECRET) as server,
        node_client(server, node, "n1w0") as client,
    ):
        client.tell(ITEMS, 2, 1)
        lease = client.ask()
        assert lease is not None
        first, second = lease.places
        answer(client, first, lease.number)
        state = JournalState.of(run, WORK)
        wait_for(lambda: state.poll() or state.answers)
        server.drop_node("n1")
        wait_for(lambda: not server.serves)
        # The questions went back; the answer in hand counts, and the lease is over.
        answer(client, second, lease.number)
        old, lease = lease, client.ask()
        again = client._socket
        client.finish(old, ())
        done = {first, second}
        while lease:
            assert done.isdisjoint(lease.places)
            done.update(lease.places)
            for place in lease.places:
                answer(client, place, lease.number)
            client.finish(lease, ())
            lease = client.ask()
        assert client.over and len(done) == 6 and client._socket is again
    state.poll()
    assert {item: one.text for (_, item), one in state.answers.items()} == {
        str(n): str(n) for n in range(6)
    }
    told = [line.record for line in Tail(RunPaths(run).journal).poll()]
    assert sum(isinstance(record, Answer) for record in told) == 6
    # The node's own journal shows its keeper what the worker holds.
    own = [line.record for line in Tail(RunPaths(node).journal).poll()]
    assert sum(isinstance(record, Answer) for record in own) == 6
    assert sum(len(record.keys) for record in own if isinstance(record, Leased)) == 6


def test_a_node_that_leaves_gets_nothing_more(tmp_path: Path) -> None:
    with (
        DispatchServer(tmp_path / "run", WORK, HERE, SECRET) as server,
        node_client(server, tmp_path / "n1", "n1w0") as leaving,
        node_client(server, tmp_path / "n11", "n11w0") as other,
    ):
        for client in (leaving, other):
            client.tell(ITEMS, 1, 1)
        lease = leaving.ask()
        assert lease is not None
        server.retire_node("n1")
        answer(leaving, lease.places[0], lease.number)
        leaving.finish(lease, ())
        assert leaving.ask() is None and leaving.over
        seen = 0
        while lease := other.ask():
            answer(other, lease.places[0], lease.number)
            other.finish(lease, ())
            seen += 1
        assert seen == 5


def test_who_drains_gives_nobody_anything_more(tmp_path: Path) -> None:
    with (
        DispatchServer(tmp_path / "run", WORK, HERE, SECRET) as server,
        node_client(server, tmp_path / "n1", "n1w0") as there,
        node_client(server, tmp_path / "own", "w0") as here,
    ):
        leases = []
        for client in (there, here):
            client.tell(ITEMS, 1, 1)
            leases.append(client.ask())
        server.retire_all()
        for client, lease in zip((there, here), leases, strict=True):
            assert lease is not None
            answer(client, lease.places[0], lease.number)
            client.finish(lease, ())
            assert client.ask() is None and client.over
    state = JournalState.of(tmp_path / "run", WORK)
    state.poll()
    assert len(state.answers) == 2


def test_a_time_limit_interrupts_or_is_noted() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with time_limit:
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGUSR2)
        assert time_limit.leaves
    with time_limit:
        with pytest.raises(KeyboardInterrupt), interruptible():
            time_limit.drains = True
            signal.raise_signal(signal.SIGUSR2)
            assert time_limit.near and not time_limit.leaves
            signal.raise_signal(signal.SIGTERM)
        assert not time_limit.leaves  # the job was cancelled
        with pytest.raises(KeyboardInterrupt), interruptible():
            time_limit.leave()
        assert time_limit.leaves
    assert signal.getsignal(signal.SIGUSR2) == before and not time_limit.near


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "12"}, "12"),
        # The number alone would be all tasks.
        (
            {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"},
            "12_3",
        ),
    ],
)
def test_the_job_of_this_program_is_named(variables: dict[str, str], job: str) -> None:
    assert own_job(variables) == job
