"""``--nodes`` and ``--join``: two machines answer the questions of one run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import model_classes
from machines import Machine, two_machines
from program import Launch, RunFolder, User, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.slow, pytest.mark.alone]

LOGIC = """
import time


def answer_to(text):
    time.sleep(0.5)
    return "A"
"""
KEYS = "vsi_bench,blink"
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


def classes(user: User) -> dict[str, str]:
    return model_classes.install(user.root / "classes", "sleepy", LOGIC)


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


@pytest.mark.parametrize("backend", MODELS)
def test_a_machine_joins_loses_its_link_dies_and_comes_back(backend: str, tmp_path: Path) -> None:
    with machines(tmp_path) as (_, here, there, other):
        output = here.root / "out"
        with here.start(
            *COMMON, *MODELS[backend], "--nodes", 2, "--output-dir", output, **classes(here)
        ) as head:
            address = address_of(head)
            assert address.startswith("10.77.0.1:")
            run = run_of(output)
            variables = {**classes(other), "EASI_JOIN_SECRET": secret_of(here, address)}
            with other.start("--join", address, "--nproc", 2, **variables) as node:
                wait_until(lambda: answers_by(run, "n1") >= 4, 300, head)
                # A cable that is pulled for five seconds: nothing is lost or asked again.
                there.set_link("down")
                time.sleep(5)
                there.set_link("up")
                before = answers_by(run, "n1")
                wait_until(lambda: answers_by(run, "n1") > before, 30, head)
                assert "is gone" not in head.out
                there.kill()
                wait_until(lambda: "node n1 (nodeb) is gone" in head.out, 10, head)
                assert node.process.wait(10) != 0
            head.wait(400)
            assert head.code == 0, head.said
        keys = [(record["benchmark"], record["item"]) for record in run.answers]
        assert len(keys) == len(set(keys)) == sum(len(run.items(key)) for key in KEYS.split(","))
