"""Launches of the whole program that several tests look at, and how two processes share the tests.

Each launch is made once, when the first test asks for it. The tests of one file stay in one
process, and so do all that look at these launches.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from easi_eval.data.rehearsal import unpack
from program import Launch, Results, RunFolder, User, run_folder

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling
    from xdist.workermanage import WorkerController

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


# ---- two processes -------------------------------------------------------------------------------


@functools.cache
def _looks_at_runs(file: Path) -> bool:
    return bool(
        re.search(r"^from conftest import .*\bRuns\b", file.read_text("utf-8"), re.MULTILINE)
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Give the tests of a file to one process, and so those of all files that import ``Runs``.

    Those that look at lmms-eval alone may go to the other one, which then makes its launch again.
    """
    from xdist.scheduler import LoadFileScheduling

    class FilesAndLaunches(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            if not _looks_at_runs(self.config.rootpath / file):
                return file
            return "runs on lmms-eval" if "/test_lmms_" in file else "runs"

    config.option.loadscopereorder = False  # what is first in the order of the tests begins first
    return FilesAndLaunches(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, so that the processes end at about the same time."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    long.add(Path(__file__).parent / "unit" / "test_style.py")  # mypy without a cache
    items.sort(key=lambda item: (not _looks_at_runs(item.path), item.path not in long))


@functools.cache
def _locks(config: pytest.Config) -> tuple[BinaryIO, BinaryIO]:
    """The door and the room: a test that wants the room for itself keeps others at the door."""
    folder = Path(config.workerinput["locks"] if hasattr(config, "workerinput") else _folder().name)
    return (folder / "door").open("wb+"), (folder / "room").open("wb+")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="easi-tests-")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    node.workerinput["locks"] = _folder().name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait until no test of the other process runs, for one that is marked ``alone``."""
    door, room = _locks(item.config)
    fcntl.lockf(door, fcntl.LOCK_EX)
    fcntl.lockf(room, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
    fcntl.lockf(door, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.lockf(room, fcntl.LOCK_UN)


# ---- whole launches ------------------------------------------------------------------------------


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
        return unpack(self.out / "rehearsal")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    root = tmp_path_factory.mktemp("runs")
    yield Runs(root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param
