"""``--base-url`` over a real server, ``transformers serve`` of profile 5, with a tiny checkpoint.

The requests pass a recorder, so that plain transformers can be asked the very same.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import BACKENDS
from easi_eval.core.profiles import NEWER, interpreter
from loopback import served
from openai_server import PROBE
from program import REPOSITORY, Launch, RunFolder, User, a_closed_port, run_folder, wait_until
from rehearsal_data import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

MODEL, BENCHMARK, TOKENS = "org/Tiny-2.5", "mmsi_bench", 12
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1"}
PYTHON = interpreter(NEWER)


@dataclass(frozen=True)
class Recorded:
    """A server's address, and what it was asked and answered."""

    url: str
    requests: list[dict[str, Any]]
    texts: list[str]


@contextmanager
def recorded(upstream: str) -> Iterator[Recorded]:
    """Pass requests on to a server, and keep those that are not the probe's."""
    lock, requests, texts = threading.Lock(), list[dict[str, Any]](), list[str]()

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(httpx.get(upstream + self.path, trust_env=False))

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            kind = {"Content-Type": self.headers["Content-Type"]}
            reply = httpx.post(
                upstream + self.path, content=data, headers=kind, timeout=120, trust_env=False
            )
            asked = json.loads(data)
            if asked["messages"][-1]["content"][0].get("text") != PROBE and reply.is_success:
                with lock:
                    requests.append(asked)
                    texts.append(reply.json()["choices"][0]["message"]["content"])
            self.reply(reply)

        def reply(self, reply: httpx.Response) -> None:
            self.send_response(reply.status_code)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            return

    with served(Recorder) as address:
        yield Recorded(f"{address}/v1", requests, texts)


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """``transformers serve`` with the checkpoint ``root / MODEL``; its address."""
    port = a_closed_port()
    options = ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    address, log = f"http://127.0.0.1:{port}", root / "serve.log"

    def up() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    with (
        log.open("wb") as said,
        subprocess.Popen(
            [PYTHON, "-m", "transformers.cli.transformers", "serve", MODEL, *options],
            cwd=root,
            env=OFFLINE,
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            wait_until(up, 300)
            yield address
        finally:
            process.kill()


@dataclass(frozen=True)
class Served:
    """A run over that server, and what plain transformers says to the same requests."""

    launch: Launch
    folder: RunFolder
    asked: Recorded
    plain: list[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    root = tmp_path_factory.mktemp("serve")
    checkpoint.build(root / MODEL)
    made: dict[str, tuple[Launch, RunFolder, Recorded]] = {}
    with serving(root) as upstream:
        for backend in BACKENDS:
            user = User(root / backend)
            with recorded(upstream) as asked:
                launch = user.run(
                    *("--smoke", "--backend", backend, "--model", MODEL),
                    *("--base-url", asked.url, "--model-args", f"max_tokens={TOKENS}"),
                    *("--benchmarks", BENCHMARK, "--no-rich", "--output-dir", user.root / "out"),
                )
            folder = run_folder(user.root / "out", backend, "org__Tiny-2.5")
            made[backend] = launch, folder, asked
    requests, answers = root / "requests.json", root / "answers.json"
    sent = [request for _, _, asked in made.values() for request in asked.requests]
    requests.write_text(json.dumps(sent), encoding="utf-8")
    script = REPOSITORY / "tests" / "plain_answers.py"
    subprocess.run([PYTHON, script, root / MODEL, requests, answers], check=True, env=OFFLINE)
    plain = iter(json.loads(answers.read_text(encoding="utf-8")))
    return {
        backend: Served(launch, folder, asked, [next(plain) for _ in asked.requests])
        for backend, (launch, folder, asked) in made.items()
    }


def test_every_answer_is_that_of_plain_transformers(runs: dict[str, Served], backend: str) -> None:
    run = runs[backend]
    assert run.launch.code == 0, run.launch.said
    texts = run.folder.texts(BENCHMARK)
    assert texts.keys() == set(run.folder.items(BENCHMARK))
    assert run.asked.texts == run.plain and len(set(run.plain)) > 1
    assert sorted(texts.values()) == sorted(run.plain)
    shown = [
        part
        for request in run.asked.requests
        for part in request["messages"][-1]["content"]
        if part["type"] == "image_url"
    ]
    assert len(shown) > len(run.plain)  # several pictures a question


def test_what_the_server_is_and_does_not_do_is_told(runs: dict[str, Served], backend: str) -> None:
    """It tells no version, and takes no picture files."""
    run = runs[backend]
    assert "engine unknown" in run.launch.out and "engine" not in run.folder.manifest["fields"]
    assert ("images are sent to the servers" in run.launch.out) is (backend == "vlmevalkit")
    assert "images in" not in run.launch.out
