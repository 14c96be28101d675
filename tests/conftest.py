"""Launches of the whole program that several tests look at.

Each is made once, when the first test asks for it.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from program import Launch, Results, RunFolder, User, run_folder

BACKENDS = ("vlmevalkit", "lmms-eval")


def pytest_configure() -> None:
    """Give ignored signals (SIGINT, SIGHUP, SIGQUIT) their default meaning.

    A test run in the background or under nohup ignores Ctrl-C, and so would every program that a
    test interrupts.
    """
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(
                signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
            )


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Keep the objects of earlier modules out of garbage collection.

    Backends leave millions of objects in this process; a worker collects after each failed call,
    which then takes ten seconds.
    """
    gc.freeze()


@dataclass(frozen=True)
class Whole:
    """An ended launch with what it wrote.

    ``results`` are the result files as they were at its end, ``out`` is the folder as it is now.
    """

    user: User
    launch: Launch
    out: Path
    results: Results
    folder: RunFolder


class Runs:
    """The whole rehearsal on each backend, all benchmarks that it has.

    Both backends write into one output folder.
    """

    def __init__(self, root: Path) -> None:
        self.user = User(root)
        self.out = root / "out"
        # a failed launch is kept too: it would fail again
        self._launched = functools.cache(self._launch)

    def alone(self, backend: str) -> Whole:
        """One worker."""
        return self._whole(backend, "out", 1)

    def pair(self, backend: str) -> Whole:
        """Two workers, into a folder of its own."""
        return self._whole(backend, f"pair-{backend}", 2)

    def _whole(self, backend: str, name: str, nproc: int) -> Whole:
        launch = self._launched(backend, name, nproc)
        assert launch.code == 0, launch.said
        out = self.user.root / name
        return Whole(
            self.user, launch, out, Results(out / "kept" / backend), run_folder(out, backend)
        )

    def _launch(self, backend: str, name: str, nproc: int) -> Launch:
        out = self.out if name == self.out.name else self.fresh(name)
        launch = self.user.run(
            "--smoke",
            "--backend",
            backend,
            "--output-dir",
            out,
            "--no-rich",
            "--include-extra",
            "--nproc",
            nproc,
        )
        if launch.code == 0:
            Results.keep(out, out / "kept" / backend)
        return launch

    def fresh(self, name: str) -> Path:
        """A new output folder that already holds the rehearsal's data and model.

        Every run there would make the same ones again.
        """
        out = self.user.root / name
        for served in sorted((self.out / "rehearsal").glob("hub-*")):
            shutil.copytree(served, out / "rehearsal" / served.name, copy_function=os.link)
        return out

    @property
    def served(self) -> Path:
        """What the rehearsal's hub serves."""
        self.alone(BACKENDS[0])
        (found,) = (self.out / "rehearsal").glob("hub-*")
        return found


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    root = tmp_path_factory.mktemp("runs")
    yield Runs(root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param
