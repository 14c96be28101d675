"""A machine that joins compares what the head tells it with what it has itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import model_classes
from easi_eval.engine.node_link import NodeLink
from easi_eval.engine.nodes import NodeServer
from program import User, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SECRET = "a secret of this test"
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(tmp_path_factory.mktemp("user"), secrets=False)


@pytest.fixture(scope="module")
def variables(user: User) -> dict[str, str]:
    logic = "def answer_to(text):\n    return 'A'\n"
    found = model_classes.install(user.root / "classes", "sleepy", logic)
    return {**found, "EASI_JOIN_SECRET": SECRET}


@pytest.fixture(scope="module")
def about(user: User, variables: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What a real head tells."""
    options = ("--smoke", "--model", "Sleepy", "--benchmarks", "blink", "--no-rich", "--nodes", 2)
    output = ("--output-dir", user.root / "out")
    with user.start(*options, *output, **variables, EASI_LISTEN=HERE) as head:
        wait_until(lambda: "--join " in head.out, 200, head)
        assert f"EASI_LISTEN={HERE} is {HERE}: only programs on this machine can join" in head.out
        port = int(re.search(rf"--join {HERE}:(\d+)", head.out)[1])
        with NodeLink(HERE, port, SECRET) as link:
            yield link.about


def test_a_head_tells_no_place_of_its_own(about: dict[str, Any], user: User) -> None:
    assert about["revisions"] and str(user.root) not in json.dumps(about)


def test_another_program_or_other_data_answer_nothing(
    about: dict[str, Any], user: User, variables: dict[str, str], tmp_path: Path
) -> None:
    (data, revision), *_ = about["revisions"].items()
    false = {
        f"this program 0.0.1 there, {about['program']} here": {"program": "0.0.1"},
        f"data {data} 0123 there, {revision} here": {"revisions": {data: "0123"}},
    }
    with ExitStack() as stack:
        nodes = {}
        for number, (reason, change) in enumerate(false.items()):
            told = {**about, **change}
            server = stack.enter_context(
                NodeServer(tmp_path / str(number), SECRET, HERE, 1, told, print, print)
            )
            nodes[reason] = stack.enter_context(
                user.start("--join", server.address, "--device", "cpu", **variables)
            )
        for reason, node in nodes.items():
            node.wait(300)
            expected = f"error: this machine would give different answers: {reason}\nhint: "
            assert node.code == 2 and node.err.startswith(expected), node.said
