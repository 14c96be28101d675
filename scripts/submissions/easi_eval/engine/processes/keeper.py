"""The process that every rank of a launcher runs: it starts one worker, watches and restarts it.

torchrun and accelerate end all ranks when one rank dies. A keeper loads no model and survives its
worker, so a killed worker loses only the questions it was answering and the other ranks continue.
It uses the standard library only, because N keepers start at the same time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...core.atomic_files import replace_file
from ...core.errors import EasiError
from ...core.log_lines import telling_line
from ...core.run_folder import RunPaths
from . import gpus, guard, supervisor
from .interrupts import interruptible
from .jobs import Job, Outcome
from .worker_ends import ENDS, GAVE_UP, End, describe, note_end

DONE = 0
CANNOT_WORK = 3  # exit code of a worker whose restart would fail in the same way
STOPPED = 128 + signal.SIGTERM
FATAL = "Fatal Python error: "
LONGEST_LINE = 500  # characters of an output line that are shown
LAST_LINES = 40  # last lines of an attempt's output that are searched for the error
HOPELESS = 10  # starts of one worker in total, whatever their duration
SHOW_FOR = 3.0  # seconds for a hung worker to write the stacks of its threads
HAND_IN = 5.0  # seconds for a worker to finish the questions in hand when its launcher ends it


class Watcher(Protocol):
    """Detects whether one attempt of a worker hangs."""

    @property
    def pid(self) -> int | None:
        """Process id of the worker, or None if it is unknown."""

    def hung(self) -> str:
        """The reason why the worker is considered hung, or ""; called several times a second."""

    def note(self) -> None:
        """Record the hang; called before the worker is killed for it."""


@dataclass(frozen=True)
class Place:
    """The position of this process in its launcher; without a launcher the only rank."""

    rank: int = 0
    local_rank: int = 0
    local_size: int = 1
    node: str = ""  # the name of a machine that joined the run

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Place:
        """Read the position from the environment of a rank."""
        return cls(
            int(environ.get("RANK", 0)),
            int(environ.get("LOCAL_RANK", 0)),
            int(environ.get("LOCAL_WORLD_SIZE", 1)),
            environ.get("EASI_NODE", ""),
        )

    @property
    def worker(self) -> str:
        """The name of the worker: ``w5``, or ``n2w5`` on a machine that joined."""
        return f"{self.node}w{self.rank}"


def worker_env(extra: Mapping[str, str], place: Place, visible: Sequence[str]) -> dict[str, str]:
    """The differences of a worker's environment from its keeper's.

    For the backends each worker is a single stock process that sees its share of the ``visible``
    GPUs. The supervisor removes all variables of the launcher. OMP_NUM_THREADS is set by the run,
    under either launcher. ``extra`` overrides the rest.
    """
    changes = {"EASI_WORKER": place.worker, "EASI_DISPATCHER": "1"}
    if len(visible) >= place.local_size:
        changes[gpus.VARIABLE] = gpus.share(visible, place.local_rank, place.local_size)
    return {**changes, **extra}


def keep(
    argv: Sequence[str],
    run_root: Path,
    env: Mapping[str, str] | None = None,
    *,
    restarts: int = 3,
    pause: float = 1.0,
    settled: float = 900.0,
    grace: float = 20.0,
    watcher: Callable[[str, int], Watcher] | None = None,
) -> int:
    """Run one worker to its end, restarting it after abnormal exits.

    A worker that the ``watcher`` considers hung writes the stacks of its threads to the log, is
    killed and restarted; a hang does not count as a failure. The worker ends when this process or
    its launcher ends. Each abnormal end is appended to ``<run_root>/journal/<worker>.ends``. If the
    worker is given up, the reason is written to ``<worker>.gaveup`` there.

    Args:
        argv: The worker's whole command line.
        run_root: Folder of the run.
        env: Changes to the worker's environment.
        restarts: Restarts in a row after abnormal exits (not 0, not ``CANNOT_WORK``).
        pause: Seconds before the first restart; doubles with each further one in a row.
        settled: If an attempt lasted this many seconds, its failure counts as the first in a row.
        grace: Seconds between SIGTERM and SIGKILL when the worker is stopped.
        watcher: Makes the watcher of an attempt from the worker's name and the attempt's number.

    Returns:
        0, also if the worker was given up; 143 if this process was told to stop.
    """
    place = Place.read(os.environ)
    worker = place.worker
    changes = worker_env(env or {}, place, gpus.visible_gpus())
    note = RunPaths(run_root).journal / f"{worker}{GAVE_UP}"
    ends = RunPaths(run_root).journal / f"{worker}{ENDS}"
    for left in (note, ends):
        left.unlink(missing_ok=True)
    launcher = os.getppid()
    failures = starts = 0
    try:
        with interruptible():
            while True:
                starts, began = starts + 1, time.time()
                job = Job(worker, tuple(argv), {**changes, "EASI_ATTEMPT": str(starts)})
                watched = _Hangs(worker, watcher(worker, starts) if watcher else None)
                outcome = _watch(job, launcher, grace, watched)
                if outcome is None:
                    return STOPPED
                if outcome.exit_code == DONE:
                    return 0
                failures = (
                    0 if watched.killed else 1 if outcome.seconds >= settled else failures + 1
                )
                hopeless = (
                    outcome.exit_code == CANNOT_WORK or failures > restarts or starts >= HOPELESS
                )
                line = _line(outcome)
                note_end(
                    ends,
                    End(
                        worker,
                        began,
                        describe(outcome.exit_code),
                        line,
                        None if hopeless else failures,
                        restarts,
                    ),
                )
                if hopeless:
                    _give_up(note, outcome, starts, line)
                    return 0
                wait = pause * 2 ** max(failures - 1, 0)
                _say(
                    f"[{worker}] ended with {describe(outcome.exit_code)}; "
                    f"starting it again in {wait:g} s"
                )
                if not _pause(wait, launcher):
                    return STOPPED
    except KeyboardInterrupt:
        return STOPPED


class _Hangs:
    """Ends an attempt that hangs.

    SIGUSR1 makes the worker write the stacks of its threads to the log; SIGKILL follows.
    """

    def __init__(self, worker: str, watcher: Watcher | None) -> None:
        self._worker, self._watcher = worker, watcher
        self._until: float | None = None  # when the worker is killed; None: not hung
        self.killed = False

    def tick(self, below: int) -> None:
        """Check the worker; ``below`` is the process under which it runs."""
        if self._watcher is None or self.killed:
            return
        if self._until is None:
            if (reason := self._watcher.hung()) and self._signal(below, signal.SIGUSR1):
                _say(f"[{self._worker}] {reason}; stack of its threads:")
                self._until = time.monotonic() + SHOW_FOR
        elif time.monotonic() > self._until:
            self._until = None
            if self._watcher.hung():  # else it has continued meanwhile
                try:
                    self._watcher.note()
                except (OSError, EasiError) as error:  # a full disk must not end the keeper
                    _say(f"[{self._worker}] its hang could not be noted: {error}")
                self.killed = self._signal(below, signal.SIGKILL)

    def _signal(self, below: int, signum: signal.Signals) -> bool:
        """Signal the worker; False if its process id is unknown or not below ``below``."""
        pid = self._watcher.pid if self._watcher else None
        return pid is not None and pid in guard.descendants(below) and guard.send(pid, signum)


def _watch(job: Job, launcher: int, grace: float, hangs: _Hangs) -> Outcome | None:
    """Run one attempt; None if the launcher ended, which ends the worker too."""
    with supervisor.start(job, 1, grace=grace, orphan_grace=2.0) as handle:
        try:
            while handle.wait(0.2) is None:
                if os.getppid() != launcher:
                    return None
                hangs.tick(handle.pid)
        except KeyboardInterrupt:
            # Another rank died, so the launcher ends all. If the program stops, its guard has sent
            # SIGTERM to the worker too, and nothing is waited for.
            for worker in guard.descendants(handle.pid)[:1]:
                guard.send(worker, signal.SIGUSR2)
            handle.wait(HAND_IN)
            raise
    return handle.outcome()


def _pause(seconds: float, launcher: int) -> bool:
    """Wait; False as soon as the launcher has ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if os.getppid() != launcher:
            return False
        time.sleep(min(left, 0.2))
    return True


def _line(outcome: Outcome) -> str:
    """The line of an attempt's output that names the error."""
    # Python prints this line above the stacks of all threads, so it may be far from the end.
    fatal = [line for line in outcome.log_tail if line.startswith(FATAL)]
    line = (
        fatal[-1]
        if fatal and (outcome.exit_code or 0) < 0
        else telling_line(outcome.log_tail[-LAST_LINES:])
    )
    return line[:LONGEST_LINE] or "it printed nothing"


def _give_up(note: Path, outcome: Outcome, starts: int, line: str) -> None:
    """Print why the worker is given up, and write it to ``note``."""
    reason = (
        f"{describe(outcome.exit_code)} after {starts} start{'s' if starts > 1 else ''}: {line}"
    )
    _say(f"[{outcome.job.name}] given up: {reason}")
    try:
        replace_file(note, f"{reason}\n".encode(errors="backslashreplace"))
    # A full disk. A keeper that ends with an error makes the launcher end all other ranks.
    except OSError as error:
        _say(f"[{outcome.job.name}] the reason could not be noted in {note}: {error.strerror}")


def _say(text: str) -> None:
    """Write a line to the launcher's output; ignored if the reader is gone."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode(errors="backslashreplace"))
