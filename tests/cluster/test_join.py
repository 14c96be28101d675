"""``--nodes`` and ``--join``: two machines answer the questions of one run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import model_classes
from machines import Machine, two_machines
from program import PROGRAM, Launch, RunFolder, User, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.slow, pytest.mark.alone]

# The questions take long while a file is there, so that a test has time for what it does.
LOGIC = """
import os
import signal
import time
import zlib
from pathlib import Path

if "EASI_TEST_DEAF" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def answer_to(text):
    slow = Path(os.environ["EASI_TEST_SLOW"]).exists()
    time.sleep(float(os.environ["EASI_TEST_SECONDS"]) if slow else 0.05)
    return "ABCD"[zlib.crc32(text.encode()) % 4]
"""
KEYS = "vsi_bench,blink"
CORES = sorted(os.sched_getaffinity(0))
COMMON = ("--smoke", "--benchmarks", KEYS, "--no-rich")
MODELS = {
    "vlmevalkit": ("--model", "Sleepy"),
    "lmms-eval": ("--backend", "lmms-eval", "--model", "sleepy", "--model-args", "pretrained=no"),
}


@contextmanager
def machines(folder: Path) -> Iterator[tuple[Machine, User, Machine, User]]:
    """Two machines, each with a user who has a home, caches and model class of his own."""
    with two_machines(folder) as (first, second):
        users = [
            User(folder / machine.name, secrets=False, machine=machine.words)
            for machine in (first, second)
        ]
        yield first, users[0], second, users[1]


def classes(user: User, slow: Path, seconds: float = 1.5) -> dict[str, str]:
    slow.touch()
    found = model_classes.install(user.root / "classes", "sleepy", LOGIC)
    return {**found, "EASI_TEST_SLOW": str(slow), "EASI_TEST_SECONDS": str(seconds)}


def address_of(head: Launch) -> str:
    wait_until(lambda: "--join " in head.out, 200, head)
    return re.search(r"--join (\S+)", head.out)[1]


def secret_of(user: User, address: str) -> str:
    (path,) = (user.root / "cache" / "easi-eval" / "join").iterdir()
    assert path.name == address.replace(":", "_")
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()


def run_of(output: Path) -> RunFolder:
    (folder,) = output.glob("runs/*/*")
    return RunFolder(folder)


def answers_by(run: RunFolder, node: str) -> int:
    return sum(record["worker"].startswith(node) for record in run.answers)


def starts(run: RunFolder, worker: str) -> int:
    """How often a worker came to the dispatcher."""
    return len(list(run.root.glob(f"journal/{worker}.*.jsonl")))


def is_complete(run: RunFolder) -> bool:
    """Whether every question was answered, and none twice."""
    keys = [(record["benchmark"], record["item"]) for record in run.answers]
    listed = sum(len(run.items(key)) for key in KEYS.split(","))
    return len(keys) == len(set(keys)) == listed


def is_refused(node: Launch, reason: str) -> bool:
    """Whether a machine left before it loaded anything, and said why in one line."""
    lines = node.err.strip().splitlines()
    return node.code == 2 and len(lines) == 2 and reason in lines[0] and "started" not in node.out


def blind_to(machine: Machine, folder: Path, empty: Path) -> tuple[str, ...]:
    """The words of a machine on which nothing is in this folder."""
    empty.mkdir(exist_ok=True)
    return (*machine.words, "sh", "-c", f'mount --bind {empty} {folder}; exec "$@"', "sh")


def process(pid: int) -> tuple[list[str], dict[str, str], int]:
    """Words, environment and parent of a process; empty if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        words = (folder / "cmdline").read_text(errors="replace").split("\0")
        variables = (folder / "environ").read_text(errors="replace").split("\0")
        parent = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[1])
    except OSError:
        return [], {}, 0
    found = {name: value for name, _, value in (each.partition("=") for each in variables)}
    return words, found, parent


def environments(pids: list[int]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Those of the node programs among these processes, and of their workers."""
    found = [process(pid) for pid in pids]
    nodes = [variables for words, variables, _ in found if words[1:3] == [str(PROGRAM), "--join"]]
    return nodes, [variables for _, variables, _ in found if "EASI_WORKER" in variables]


def keepers(pids: list[int]) -> set[int]:
    """Those among these processes that have started a worker."""
    parents = {process(pid)[2] for pid in pids if "EASI_WORKER" in process(pid)[1]}
    return {pid for pid in parents if "EASI_WORKER" not in process(pid)[1]} - {0}


def lose_keepers(run: RunFolder, head: Launch, node: Launch) -> None:
    """Kill the keeper of each machine, which starts its workers again by itself."""
    begun = {worker: starts(run, worker) for worker in ("n1w0", "w0")}
    for launch in (node, head):
        (keeper,) = keepers(launch.alive())
        os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: all(starts(run, each) > count for each, count in begun.items()), 300, head)
    for worker in begun:
        before = answers_by(run, worker)
        wait_until(lambda: answers_by(run, worker) > before, 100, head)  # noqa: B023
    assert "is gone" not in head.out and "starting them again" not in head.out


def test_machines_that_do_not_fit_leave_with_one_line(tmp_path: Path) -> None:
    """Another version, no weights, a wrong secret; the run goes on, and Ctrl-C ends all."""
    slow = tmp_path / "slow"
    with machines(tmp_path) as (_, here, there, other):
        output, weights = here.root / "out", here.root / "models" / "weights"
        weights.mkdir(parents=True)
        (weights / "config.json").write_text('{"model_type": "qwen2"}')
        # A relative path: the other machine has another working folder.
        model = ("--backend", "lmms-eval", "--model", "sleepy", "--model-args")
        options = (
            *COMMON,
            *model,
            "pretrained=models/weights",
            "--nodes",
            2,
            "--output-dir",
            output,
        )
        deaf = {"EASI_TEST_DEAF": "1"}  # this machine's worker does not end when it is asked to
        with here.start(*options, **classes(here, slow), **deaf) as head:
            address = address_of(head)
            join = ("--join", address)
            variables = {**classes(other, slow), "EASI_JOIN_SECRET": secret_of(here, address)}
            wrong = other.run(*join, EASI_JOIN_SECRET="guessed", seconds=300)
            assert is_refused(wrong, "does not know this secret"), wrong.said
            empty = tmp_path / "empty"
            for folder in (weights.parent, weights):  # no such folder; one with other content
                blind = replace(other, machine=blind_to(there, folder, empty))
                node = blind.run(*join, **variables, seconds=300)
                assert is_refused(node, str(weights)), node.said
            newer = Path(variables["PYTHONPATH"]) / "transformers-4.99.0.dist-info"
            newer.mkdir()
            node = other.run(*join, **variables, seconds=300)
            assert is_refused(node, "transformers 4."), node.said
            newer.rmdir()
            run = run_of(output)
            differ = " left: this machine would give different answers: "
            wait_until(lambda: head.out.count(differ) == 2, 60, head)
            # Each machine's threads are those of its own cores.
            one = replace(other, machine=(*there.words, "taskset", "--cpu-list", str(CORES[0])))
            with one.start(*join, **variables) as node:
                wait_until(lambda: answers_by(run, "n4") and answers_by(run, "w0"), 300, head)
                for launch, threads in ((node, 1), (head, min(8, len(CORES)))):
                    _, workers = environments(launch.alive())
                    assert {each["OMP_NUM_THREADS"] for each in workers} == {str(threads)}
                told = here.run("--status", "--output-dir", output).out
                assert "node n4 (nodeb), no GPU, 1 worker" in told and ": at work" in told, told
                assert told.count(" left: this") == 2 and "last error" not in told
                os.kill(head.process.pid, signal.SIGINT)
                node.wait(30)
                assert node.code == 0 and head.process.poll() is None, node.said + head.said


@pytest.mark.parametrize("backend", MODELS)
def test_machines_join_lose_their_link_leave_and_die(backend: str, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    with machines(tmp_path) as (_, here, there, other):
        output = here.root / "out"
        with here.start(
            *COMMON, *MODELS[backend], "--nodes", 2, "--output-dir", output, **classes(here, slow)
        ) as head:
            address = address_of(head)
            assert address.startswith("10.77.0.1:")
            run = run_of(output)
            # The other machine has nothing of the run folder.
            other = replace(other, machine=blind_to(there, output, tmp_path / "empty"))
            variables = {**classes(other, slow), "EASI_JOIN_SECRET": secret_of(here, address)}
            join = ("--join", address, "--nproc", 1)
            with other.start(*join, **variables) as node:
                wait_until(lambda: answers_by(run, "n1") >= 2, 300, head)
                # A cable that is pulled for two seconds: nothing is lost or asked again.
                # How long it may be is measured in tests/benchmarks.
                there.set_link("down")
                time.sleep(2)
                there.set_link("up")
                before = answers_by(run, "n1")
                wait_until(lambda: answers_by(run, "n1") > before, 100, head)
                assert "is gone" not in head.out
                if backend == "vlmevalkit":
                    lose_keepers(run, head, node)
                # As Slurm does before a time limit: it finishes what it has in hand, and leaves.
                (program,) = [
                    pid
                    for pid in node.alive()
                    if f"--join\0{address}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
                    and b"nsenter" not in Path(f"/proc/{pid}/cmdline").read_bytes()
                ]
                os.kill(program, signal.SIGUSR2)
                node.wait(200)
                assert node.code == 0, node.said
                wait_until(lambda: "left: its time limit is near" in head.out, 60, head)
            with other.start(*join, **variables) as node:
                wait_until(lambda: answers_by(run, "n2") >= 2, 300, head)
                there.kill()
                wait_until(lambda: "node n2 (nodeb) is gone" in head.out, 100, head)
                assert node.process.wait(60) != 0
            slow.unlink()
            head.wait(400)
            assert head.code == 0, head.said
    assert is_complete(run)
    # The other machine's GPUs stand in the manifest, too: here there are none.
    lines = run.manifest["machines"]
    assert len(lines) == 2 and lines[1].startswith("machine 1: no GPU, 1 worker")
    assert run.manifest["launches"][0]["place"] == "2 machines"


def test_a_machine_ends_after_that_of_its_head(tmp_path: Path) -> None:
    """One without power says nothing, and a run of it is not begun elsewhere while it lives."""
    slow = tmp_path / "slow"
    with machines(tmp_path) as (place, here, _, other):
        output = here.root / "out"
        options = [*COMMON, *MODELS["vlmevalkit"], "--nodes", "2", "--output-dir", str(output)]
        at = ("ip", "addr", "add", "10.77.0.9/24", "dev", place.link)
        subprocess.run([*here.machine, *at], check=True)
        with here.start(*options, **classes(here, slow), EASI_LISTEN="10.77.0.9") as head:
            address = address_of(head)
            assert address.startswith("10.77.0.9:")
            secret, own = secret_of(here, address), classes(other, slow)
            with other.start("--join", address, **own, EASI_JOIN_SECRET=secret) as node:
                wait_until(lambda: answers_by(run_of(output), "n1"), 300, head)
                second = other.run(*options, **own, seconds=200)
                assert second.code == 2 and " on nodea" in second.err, second.said
                assert "if nodea is gone for good, delete " in second.err
                place.set_link("down")
                place.kill()
                wait_until(lambda: not node.alive(), 200)
                assert node.process.wait(60) == 2
                assert "the head of the run is gone" in node.err
                shown = {*head.commands, *node.commands}
                assert len(shown) > 4 and not [words for words in shown if secret in words]
        with other.start(*options, **own) as third:  # it looks for signs of the first, then goes on
            wait_until(lambda: " on nodea; waiting 30 s for a sign of it" in third.err, 100, third)
