"""What every rank of a launcher runs: a thin process that starts one worker, watches it and starts it again.

torchrun and accelerate end all ranks when one of them dies. A keeper holds no model and does not die, so a worker that
is killed costs its items in flight and leaves the others alone. Standard library only: N of them start at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ..errors import EasiError
from . import gpus, guard, supervisor
from .jobs import Job, Outcome
from .output import telling_line

DONE = 0
CANNOT_WORK = 3  # the worker's exit code for "starting me again is of no use"
STOPPED = 128 + signal.SIGTERM
JOURNAL, NOTE = "journal", ".gaveup"
ENDS = ".ends"  # of the file with a line for each abnormal end of a worker
FATAL = "Fatal Python error: "
LONGEST_LINE = 500  # characters of it are shown
LAST_LINES = 40  # of an attempt's output may tell why it ended
HOPELESS = 10  # starts altogether, however long each of them lasted
SHOW_FOR = 3.0  # seconds that a hung worker has to show what its threads are at


class Watcher(Protocol):
    """Tells whether one attempt of a worker hangs."""

    @property
    def pid(self) -> int | None:
        """Of the worker, if it is known."""

    def hung(self) -> str:
        """Why it is taken for hung, or ""; called several times a second."""

    def note(self) -> None:
        """Called before it is killed for that."""


@dataclass(frozen=True)
class End:
    """How one attempt of a worker ended: ``how`` as ``describe`` says it, and the telling ``line`` of its output.

    ``restart``: which one of ``restarts`` in a row comes next, None if the worker is given up, 0 if the count starts anew.
    """

    worker: str
    began: float  # Unix time
    how: str
    line: str
    restart: int | None
    restarts: int

    @property
    def said(self) -> str:
        """For people: ``w0 died (SIGSEGV), restart 2 of 3: <line>``."""
        then = (
            "given up"
            if self.restart is None
            else f"restart {self.restart} of {self.restarts}"
            if self.restart
            else "started again"
        )
        return f"{self.worker} died ({self.how}), {then}: {self.line}"


@dataclass(frozen=True)
class Place:
    """Where a launcher put this process. Without a launcher: the only rank, and no store."""

    rank: int = 0
    local_rank: int = 0
    local_size: int = 1
    store: str = ""  # host:port of the launcher's own TCPStore, open to clients as long as the launcher lives

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Place:
        """Only torch's elastic agent (torchrun; accelerate with several processes) hosts a store and says so."""
        elastic = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return cls(
            int(environ.get("RANK", 0)),
            int(environ.get("LOCAL_RANK", 0)),
            int(environ.get("LOCAL_WORLD_SIZE", 1)),
            f"{environ['MASTER_ADDR']}:{environ['MASTER_PORT']}" if elastic else "",
        )


def worker_env(extra: Mapping[str, str], place: Place, visible: Sequence[str]) -> dict[str, str]:
    """What a worker's environment differs in from its keeper's. ``extra`` wins.

    To the backends each worker is a single stock process with its share of ``visible`` GPUs: the supervisor removes every
    trace of the launcher. OMP_NUM_THREADS comes from the run, through either launcher.
    """
    changes = {"EASI_WORKER": f"w{place.rank}", "EASI_STORE": place.store}
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
    """Run one worker to its end and return 0, also if it had to be given up; 143 if we were told to stop.

    ``argv`` is the worker's whole command line. It is started again after an abnormal exit (not 0, not
    ``CANNOT_WORK``), at most ``restarts`` times in a row after a pause that doubles from ``pause`` seconds; an attempt
    that lasted ``settled`` seconds starts the count anew. A worker given up leaves the reason in
    ``<run_root>/journal/<worker>.gaveup``; each abnormal end is a line of ``<worker>.ends`` there. It ends when this process or its launcher does. What the ``watcher`` of an
    attempt (made from the worker's name and the attempt's number) takes for hung shows its stacks in the log and is
    killed and started again; that is no fault of the worker's.
    """
    place = Place.read(os.environ)
    worker = f"w{place.rank}"
    changes = worker_env(env or {}, place, gpus.visible_gpus())
    note = run_root / JOURNAL / f"{worker}{NOTE}"
    ends = run_root / JOURNAL / f"{worker}{ENDS}"
    for left in (note, ends):
        left.unlink(missing_ok=True)
    launcher = os.getppid()
    failures = starts = 0
    try:
        with supervisor.interruptible():
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
                _note_end(
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
                    f"[{worker}] ended with {describe(outcome.exit_code)}; starting it again in {wait:g} s"
                )
                if not _pause(wait, launcher):
                    return STOPPED
    except KeyboardInterrupt:
        return STOPPED


def gave_up_reasons(run_root: Path) -> list[str]:
    """Why workers of the last launch were given up, each reason once, the lowest worker's first."""
    notes = sorted(
        (run_root / JOURNAL).glob(f"w*{NOTE}"), key=lambda path: (len(path.name), path.name)
    )
    reasons = []
    for path in notes:
        with contextlib.suppress(FileNotFoundError):  # its keeper has started anew
            reasons.append(path.read_text(encoding="utf-8").strip())
    return list(dict.fromkeys(reasons))


def ends(run_root: Path) -> list[End]:
    """The abnormal ends of this launch's workers, worker by worker; what is being written is left for the next look."""
    found: list[End] = []
    for path in sorted(
        (run_root / JOURNAL).glob(f"w*{ENDS}"), key=lambda path: (len(path.name), path.name)
    ):
        with contextlib.suppress(OSError, ValueError, TypeError):
            whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
            found += [End(**json.loads(line)) for line in whole.splitlines()]
    return found


def forget_reasons(run_root: Path) -> None:
    """For a new launch, which may have fewer workers than the last."""
    for kind in (NOTE, ENDS):
        for note in (run_root / JOURNAL).glob(f"w*{kind}"):
            note.unlink(missing_ok=True)


def describe(code: int | None) -> str:
    """An exit code for people: "exit code 1", "SIGKILL"."""
    if code is None:
        return "our request"
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


class _Hangs:
    """Ends an attempt that hangs: stacks into the log first (the worker shows them on SIGUSR1), then SIGKILL."""

    def __init__(self, worker: str, watcher: Watcher | None) -> None:
        self._worker, self._watcher = worker, watcher
        self._until: float | None = None  # when a worker that was asked for its stacks is killed
        self.killed = False

    def tick(self, below: int) -> None:
        """``below``: the process under which the worker runs."""
        if self._watcher is None or self.killed:
            return
        if self._until is None:
            if (reason := self._watcher.hung()) and self._signal(below, signal.SIGUSR1):
                _say(f"[{self._worker}] {reason}; what its threads are at:")
                self._until = time.monotonic() + SHOW_FOR
        elif time.monotonic() > self._until:
            self._until = None
            if self._watcher.hung():  # else it came back
                try:
                    self._watcher.note()
                except (OSError, EasiError) as error:  # as in _give_up
                    _say(f"[{self._worker}] that it hung could not be noted: {error}")
                self.killed = self._signal(below, signal.SIGKILL)

    def _signal(self, below: int, signum: signal.Signals) -> bool:
        pid = self._watcher.pid if self._watcher else None
        return pid is not None and pid in guard.descendants(below) and guard.send(pid, signum)


def _watch(job: Job, launcher: int, grace: float, hangs: _Hangs) -> Outcome | None:
    """Run one attempt; None if the launcher has gone and the worker with it."""
    with supervisor.start(job, 1, grace=grace, orphan_grace=2.0) as handle:
        while handle.wait(0.2) is None:
            if os.getppid() != launcher:
                return None
            hangs.tick(handle.pid)
    return handle.outcome()


def _pause(seconds: float, launcher: int) -> bool:
    """Wait; False as soon as the launcher has gone."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if os.getppid() != launcher:
            return False
        time.sleep(min(left, 0.2))
    return True


def _line(outcome: Outcome) -> str:
    fatal = [
        line for line in outcome.log_tail if line.startswith(FATAL)
    ]  # above the stacks of all threads
    line = (
        fatal[-1]
        if fatal and (outcome.exit_code or 0) < 0
        else telling_line(outcome.log_tail[-LAST_LINES:])
    )
    return line[:LONGEST_LINE] or "it printed nothing"


def _note_end(path: Path, end: End) -> None:
    """For the program that waits for the workers; without it, a full disk costs only what it would have said."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(end)) + "\n")


def _give_up(note: Path, outcome: Outcome, starts: int, line: str) -> None:
    reason = (
        f"{describe(outcome.exit_code)} after {starts} start{'s' if starts > 1 else ''}: {line}"
    )
    _say(f"[{outcome.job.name}] given up: {reason}")
    whole = note.with_name(f".{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(reason + "\n", encoding="utf-8", errors="backslashreplace")
        whole.replace(note)
    except (
        OSError
    ) as error:  # a full disk; a keeper that dies of it would take the other workers along
        _say(f"[{outcome.job.name}] the reason could not be noted in {note}: {error.strerror}")


def _say(text: str) -> None:
    """To the launcher's output, line by line like the worker's own; nobody may be left to read it."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode(errors="backslashreplace"))
