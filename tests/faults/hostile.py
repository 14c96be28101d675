"""Short programs that misbehave, and ways to see what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from easi_eval.engine.processes.jobs import Job

# A double fork, a session of its own and an empty environment: all a program can do to get away.
DAEMONISE = """
import os, sys, time
def daemon(mark, on_term=None):
    ready, begun = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.dup2(begun, 9)
            trap = "" if on_term is None else f"trap '{on_term}' TERM; "
            loop = trap + "echo >&9; exec 9>&-; while :; do sleep 1; done"
            os.execve("/bin/sh", ["/bin/sh", "-c", loop, mark], {"PATH": os.environ["PATH"]})
        os._exit(0)
    os.wait()
    os.close(begun)
    os.read(ready, 1)  # its trap is set
    os.close(ready)
"""


def new_mark() -> str:
    """A word to put on the command line of every process of one test, so that they can be found."""
    return f"mark-{uuid.uuid4().hex}"


def python(name: str, code: str, *arguments: str, **env: str) -> Job:
    """A job that runs ``code`` in a bare interpreter (``daemon`` is defined)."""
    argv = (sys.executable, "-I", "-S", "-c", DAEMONISE + textwrap.dedent(code), *arguments)
    return Job(name, argv, {"EASI_TEST_ARGUMENTS": " ".join(arguments), **env})


def shell(name: str, code: str, *arguments: str) -> Job:
    return Job(
        name,
        ("/bin/sh", "-c", code, *(arguments or ("sh",))),
        {"EASI_TEST_ARGUMENTS": " ".join(arguments)},
    )


def marked(mark: str) -> list[int]:
    """Living processes with ``mark`` on their command line or in their environment.

    The environment of a job made by ``python`` or ``shell`` holds its arguments.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (
                    mark.encode()
                    in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))  # a zombie has neither
            except OSError:
                continue
    return found


def wait_until(true: Callable[[], object], seconds: float = 120.0) -> float:
    """Wait for ``true()``; how long it took. Fails the test when it does not come."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"waited {seconds} s in vain"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def program(
    code: str, *arguments: str, ignore: tuple[int, ...] = (), **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a main program that uses our supervisor, to be interrupted and killed.

    Its output is in ``stdout``.
    """

    def prepare() -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN if signum in ignore else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, **env},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=prepare,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
