"""lmms-eval's ``openai`` and ``async_openai`` types through the whole program.

The model is on loopback; lmms-eval runs as one client with its own concurrency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from easi_eval.benchmarks import LMMS_EVAL
from openai_server import OpenAIServer, openai_server
from program import Launch, Results, RunFolder, User, run_folder, twice

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

# served in this order: the first question is of the first
REFUSED, GOOD = ("mmsi_bench", "embspatial")
CONCURRENT = 6
TYPES = {"openai": f"num_concurrent={CONCURRENT}", "async_openai": f"num_cpus={CONCURRENT}"}


@dataclass(frozen=True)
class Served:
    """A run in which the server refuses the first question it sees, each time it comes."""

    launch: Launch
    results: Results
    folder: RunFolder
    server: OpenAIServer
    refused: str


@pytest.fixture(scope="module", params=TYPES)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    user = User(tmp_path_factory.mktemp("lmms-served"))
    first: list[str] = []

    def status(text: str, before: int) -> int:
        if not first:
            first.append(text)
        return 500 if text == first[0] else 200

    out: Path = user.root / "out"
    with openai_server(status=status, seconds=0.1, together=2) as server:
        base = server.url.removesuffix("/chat/completions")
        launch = user.run(
            "--smoke",
            "--backend",
            LMMS_EVAL,
            "--model",
            request.param,
            "--nproc",
            4,
            "--benchmarks",
            f"{REFUSED},{GOOD}",
            "--no-rich",
            "--model-args",
            f"model=org/served,base_url={base},{TYPES[request.param]},max_retries=2,retry_backoff_s=0.1",
            "--output-dir",
            out,
            NO_PROXY="127.0.0.1",
        )
    yield Served(launch, Results(out), run_folder(out, LMMS_EVAL, "org__served"), server, first[0])


def test_one_client_asks_as_many_at_once_as_it_was_told(run: Served) -> None:
    assert run.launch.code == 1, run.launch.said
    assert "--nproc 4 has no effect" in run.launch.out
    assert {answer["worker"] for answer in run.folder.answers} == {"w0"}
    assert 1 < run.server.most <= CONCURRENT
    assert twice(run.folder) == []
    assert not any("Event loop is closed" in log.read_text() for log in run.launch.logs), (
        "an asynchronous client lost its connections"
    )


def test_what_the_server_said_is_what_was_scored(run: Served) -> None:
    assert run.results.line(GOOD)["state"] == "complete" and run.results.line(GOOD)["n"] == str(
        len(run.folder.items(GOOD))
    )
    said = [text for key in (REFUSED, GOOD) for text in run.folder.texts(key).values()]
    assert sorted(said) == sorted(run.server.answers.values()) and len(set(said)) == 4


def test_a_question_that_is_always_refused_is_a_failed_one_and_no_answer(run: Served) -> None:
    lost = set(run.folder.items(REFUSED)) - set(run.folder.texts(REFUSED))
    assert len(lost) == 1 and run.server.asked[run.refused] > 1
    failed = {
        answer["item"]: answer["failure"]
        for answer in run.folder.records("answer")
        if answer["failure"]
    }
    assert failed.keys() == lost and "REQUEST_FAILED" in failed[lost.pop()]
    assert run.results.line(REFUSED)["state"] == "failed"
