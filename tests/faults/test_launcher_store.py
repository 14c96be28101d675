"""Torchrun's own store, which listens on all interfaces, and whoever writes to it during a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Runs
from program import Launch, Results, run_folder, twice, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.faults]

KEYS = ("vsi_bench", "blink")
# All keys that torch 2.9.1 writes there itself (elastic/agent/server/api.py, utils/store.py),
# at the start of its ranks and at their end. The first line of output is how many there are.
STRANGER = """
import time
from datetime import timedelta
from torch.distributed import TCPStore

AGENT = "none/torchelastic/"
STARTED = [AGENT + "role_info/0", AGENT + "assigned_ranks/0"]
BARRIER = AGENT + "agent/terminal_state"
ENDING = [BARRIER + end for end in ("/num_members", "/last_member", "0/TRACE", "/TRACING_GATE")]
store = TCPStore("127.0.0.1", int(input()), is_master=False, timeout=timedelta(seconds=5))
try:
    while not store.check(STARTED):
        pass
    print("known", len(STARTED), "there", store.num_keys() - 1, flush=True)  # torch counts one of its own
    rounds = 0
    while True:
        for key in STARTED + ENDING:
            store.set(key, "junk")
            store.compare_set(key, "junk", "more junk")
            store.append(key, "and more")
        rounds += 1
        time.sleep(0.01)
        print("round", rounds, "foreign", store.num_keys() - 1 - len(STARTED + ENDING), flush=True)
except RuntimeError:
    print("the store is gone", flush=True)
"""  # noqa: E501 -- lines of a program in a string


@contextmanager
def stranger(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that has imported torch and waits for a port; its output is in the file."""
    said = folder / "stranger.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", STRANGER],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()


def store_ports(launch: Launch) -> set[str]:
    """Where the ranks of the launch are told that the store listens."""
    found = set()
    for pid in launch.alive():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {
            each.partition(b"=")[2].decode()
            for each in variables
            if each.startswith(b"MASTER_PORT=")
        }
    return found


@pytest.fixture(scope="module")
def disturbed(runs: Runs) -> tuple[Launch, Path, list[str], int]:
    """A run while a stranger overwrites the whole store; what the stranger said, its exit code."""
    assert runs.served.is_dir()
    out = runs.fresh("stranger")
    options = ("--smoke", "--backend", "vlmevalkit", "--output-dir", out, "--no-rich")
    more = ("--benchmarks", ",".join(KEYS), "--nproc", 2)
    with stranger(runs.user.root) as (writer, said), runs.user.start(*options, *more) as launch:
        wait_until(lambda: store_ports(launch), 240, launch)
        (port,) = store_ports(launch)
        writer.communicate(f"{port}\n".encode(), timeout=400)
        launch.wait(400)
    return launch, out, said.read_text().splitlines(), writer.returncode


def test_the_stranger_knew_every_key_and_wrote_to_the_end(
    disturbed: tuple[Launch, Path, list[str], int],
) -> None:
    """Nothing of ours is in the store, from the start of the ranks to their end."""
    _, _, said, code = disturbed
    assert code == 0 and said[0] == "known 2 there 2" and said[-1] == "the store is gone", said[-9:]
    assert len(said) > 100
    assert {line.partition("foreign ")[2] for line in said[1:-1]} == {"0"}


def test_what_is_written_there_changes_no_answer(
    disturbed: tuple[Launch, Path, list[str], int], runs: Runs
) -> None:
    launch, out, _, _ = disturbed
    assert launch.code == 0, launch.said
    folder, whole = run_folder(out, "vlmevalkit"), runs.alone("vlmevalkit")
    results = Results(out)
    for key in KEYS:
        assert folder.texts(key) == whole.folder.texts(key)
        assert results.line(key)["state"] == "complete"
        assert results.score(key) == whole.results.score(key)
    assert twice(folder) == []
    headers = folder.records("header")
    assert sorted((header["worker"], header["attempt"]) for header in headers) == [
        ("w0", 1),
        ("w1", 1),
    ]
