"""The only module that starts and ends processes.

A job runs under a guard (``guard.py``) in a new session. Its output is redacted while it is written
to the log. No process of a job outlives the job or this process, whatever ends them.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from ...core.errors import EasiError
from ...core.log_lines import LineCleaner, stamped
from ...core.redact import Redactor
from . import guard
from .interrupts import defer_interrupts, interruptible
from .jobs import Job, Outcome, launcher_variables

# Variable in the environment of every process of a job; "outer:inner" for a job inside a job.
TAG = "EASI_TAG"
TAIL_LINES = 200
SWEEP_PATIENCE = 10.0
# Sweeps in a row that must find nothing: during an exec the environment of a process is not
# readable.
CLEAN_SWEEPS = 3


def started_by_hand() -> bool:
    """Whether this process was started without a run."""
    return TAG not in os.environ


class Handle:
    """A running or ended job; made by ``start``.

    As a context manager it ends the job when the block is left. If an interrupt leaves the block,
    all other jobs are asked to stop at the same time, so that their grace periods do not add up.
    Not thread-safe.
    """

    _running: ClassVar[set[Handle]] = set()

    def __init__(
        self, job: Job, log: Path | int, grace: float, orphan_grace: float, redactor: Redactor
    ) -> None:
        """Start the job; see ``start`` for the arguments.

        Raises:
            EasiError: The process cannot be started (for example because its working directory is
                missing), or the log cannot be opened.
        """
        self.job = job
        self.grace = grace
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._stopped = False
        self._over = False
        self._seconds = 0.0
        environment = _environment(job.env)
        self._tag = environment[TAG]
        self._log = _open_log(log)
        self._stamps = not isinstance(log, int)  # the reader of a descriptor stamps the lines
        guard_end, self._lifeline = os.pipe()
        self._began = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guard.__file__,
                    str(guard_end),
                    str(os.getpid()),
                    str(grace),
                    str(orphan_grace),
                    "--",
                    *job.argv,
                ],
                env=environment,
                cwd=job.cwd,
                start_new_session=True,
                pass_fds=(guard_end,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            os.close(self._lifeline)
            os.close(self._log)
            raise EasiError(
                f"cannot start {job.name}: {error}", hint="see the command with --dry-run"
            ) from error
        finally:
            os.close(guard_end)
        self.pid = self._process.pid  # of the guard, which leads the job's session
        self._reader = threading.Thread(
            target=self._read, args=(LineCleaner(redactor),), name=f"log of {job.name}", daemon=True
        )
        self._reader.start()
        self._running.add(self)

    def poll(self) -> int | None:
        """The exit code once no process of the job is left, else None; negative: the signal."""
        if not self._over and self._process.poll() is not None:
            self._finish()
        return self._process.returncode if self._over else None

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the end of the job, at most ``seconds``; returns what ``poll`` returns."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def ask_to_stop(self) -> None:
        """Make the guard begin to end the job, and return at once; see ``poll`` for the end."""
        if self._process.poll() is None:
            self._stopped = True
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the job and everything it started; returns when nothing of it is left.

        An interrupt does not cut this short.
        """
        with defer_interrupts():
            self.ask_to_stop()
            try:
                self._process.wait(self.grace + guard.KILL_PATIENCE + 5)
            except subprocess.TimeoutExpired:  # the guard itself hangs
                for pid in (*guard.descendants(self.pid), self.pid):
                    guard.send(pid, signal.SIGKILL)
                self._process.wait()
            self.poll()

    def outcome(self) -> Outcome:
        """Wait for the end of the job and return how it ended."""
        code = self.wait()
        return Outcome(self.job, None if self._stopped else code, self._seconds, tuple(self._tail))

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            for handle in self._running:
                handle.ask_to_stop()
        self.stop()

    def _finish(self) -> None:
        """After the end of the guard: kill leftovers and wait until all output is in the log."""
        with defer_interrupts():
            self._over = True
            self._running.discard(self)
            sweep(self._tag)
            # A process that still holds the pipe belongs to the job too. The wait is bounded,
            # because it may be impossible to kill.
            deadline = time.monotonic() + SWEEP_PATIENCE
            while self._reader.is_alive() and time.monotonic() < deadline:
                self._reader.join(0.2)
                sweep(self._tag)
            os.close(self._lifeline)
            self._seconds = time.monotonic() - self._began

    def _read(self, cleaner: LineCleaner) -> None:
        """Copy the output of the job to the log, in a thread, until the pipe is closed."""
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        poller = select.poll()  # select() itself fails on descriptors above 1023
        poller.register(source, select.POLLIN)
        while True:
            ready = poller.poll(1000)
            data = os.read(source, 65536) if ready else b""
            if ready and not data:
                break
            self._write(cleaner.feed(data, time.monotonic()))
        self._write(cleaner.close(time.monotonic()))
        self._process.stdout.close()
        os.close(self._log)

    def _write(self, lines: Sequence[str]) -> None:
        self._tail.extend(lines)
        for line in lines:
            # One write per line, because several jobs append to one file.
            text = f"[{self.job.name}] {line}"
            data = (
                stamped(text, time.time())
                if self._stamps
                else f"{text}\n".encode(errors="backslashreplace")
            )
            try:
                while data:
                    data = data[os.write(self._log, data) :]
            except OSError:
                # A full disk or a closed terminal must not stop the reading: the job would hang on
                # a full pipe. The tail keeps the line, and the code that writes results reports a
                # full disk.
                continue


def start(
    job: Job,
    log: Path | int,
    *,
    grace: float = 45.0,
    orphan_grace: float = 5.0,
    redactor: Redactor | None = None,
) -> Handle:
    """Start ``job``; its output goes line by line to ``log``.

    Args:
        job: The job to start.
        log: A file to append to, with the time before each line, or an open file descriptor.
        grace: Seconds between SIGTERM and SIGKILL when the job is stopped. torchrun needs over 30 s
            in the worst case.
        orphan_grace: The same when this process dies.
        redactor: Removes secrets from the output; default: the secrets of the environment.

    Raises:
        EasiError: The job cannot be started or the log cannot be opened.
    """
    with interruptible():
        handle: Handle | None = None
        try:
            with defer_interrupts():
                handle = Handle(job, log, grace, orphan_grace, redactor or Redactor.from_environ())
        except KeyboardInterrupt:
            if handle is not None:
                handle.stop()
            raise
    return handle


def run_job(
    job: Job,
    log: Path | int,
    on_tick: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
    grace: float = 45.0,
    redactor: Redactor | None = None,
    tick: float = 0.2,
) -> Outcome:
    """Run ``job`` to its end; no process of it outlives this call.

    Args:
        job: The job to run.
        log: As for ``start``.
        on_tick: Called every ``tick`` seconds.
        stop: The job is ended as soon as this returns True.
        grace: As for ``start``.
        redactor: As for ``start``.
        tick: Seconds between two calls of ``on_tick`` and ``stop``.

    Raises:
        KeyboardInterrupt: After Ctrl-C, SIGTERM or SIGHUP, when the job has been ended.
    """
    with interruptible(), start(job, log, grace=grace, redactor=redactor) as handle:
        while handle.wait(tick) is None:
            on_tick()
            if stop():
                handle.stop()
    return handle.outcome()


def sweep(tag: str, patience: float = SWEEP_PATIENCE) -> list[int]:
    """Kill every process whose environment contains ``tag``; returns their process ids.

    Repeats until none is found. Needed if the guard itself was killed. It does not find a process
    that overwrote its own environment. A process that cannot be killed is left after ``patience``
    seconds.
    """
    killed: list[int] = []
    deadline = time.monotonic() + patience
    clean = 0
    while clean < CLEAN_SWEEPS and time.monotonic() < deadline:
        found = [pid for pid in guard.process_table() if pid != os.getpid() and _carries(pid, tag)]
        for pid in found:
            guard.send(pid, signal.SIGKILL)
        killed += [pid for pid in found if pid not in killed]
        clean = 0 if found else clean + 1
        time.sleep(0.02)
    return killed


def capture(argv: Sequence[str], seconds: float = 10.0) -> str | None:
    """The output of a short program; None if it is missing, fails or takes too long.

    Args:
        argv: The command line.
        seconds: Time limit.
    """
    try:
        done = subprocess.run(
            argv,
            env=_inherited(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=True,
            text=True,
            errors="backslashreplace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _carries(pid: int, tag: str) -> bool:
    """Whether a process belongs to the job with this tag, or to a job started inside it."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or it is another user's
        return False
    wanted = f"{TAG}={tag}".encode()
    return any(variable == wanted or variable.startswith(wanted + b":") for variable in variables)


def _inherited() -> dict[str, str]:
    """The environment of this process without the variables of a launcher.

    No process that this program starts is a rank of the launcher's job.
    """
    foreign = set(launcher_variables(os.environ))
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: inherited variables, its changes ("" removes) and a new tag.

    PYTHONUNBUFFERED is set, so that Python does not hold back output in the pipe.
    """
    environment = {"PYTHONUNBUFFERED": "1", **_inherited(), **changes}
    environment = {
        name: value for name, value in environment.items() if value != "" or name not in changes
    }
    outer = os.environ.get(TAG)
    own = secrets.token_hex(8)
    environment[TAG] = f"{outer}:{own}" if outer else own
    return environment


def _open_log(log: Path | int) -> int:
    if isinstance(log, int):
        return os.dup(log)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EasiError(
            f"cannot write the log {log}: {error.strerror}", hint="choose another --output-dir"
        ) from error
