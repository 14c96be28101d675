"""A process between the supervisor and one job; ensures that no process of the job is left over.

The supervisor starts it as ``python -I -S guard.py LIFELINE PARENT GRACE ORPHAN_GRACE -- ARGV...``
in a new session. It uses the standard library only and imports little, because every job pays for
its start.

The guard is the subreaper of all processes below it: a daemonised grandchild becomes its child
instead of init's, so the whole tree can be found through /proc. It ends the tree with SIGTERM, and
after a grace period with SIGKILL:

* on SIGTERM (the supervisor stops the job): after GRACE seconds,
* when the supervisor's process is gone, seen by end of file on the LIFELINE pipe or by a changed
  parent: after ORPHAN_GRACE seconds,
* when the job has ended and left processes behind: after ``LEFTOVER_GRACE`` seconds.

A supervisor that is only stopped (SIGSTOP) keeps the pipe open, so nothing happens. The guard ends
as the job did: with its exit code, or by its signal. If the guard is killed, the kernel kills the
job's first process (PDEATHSIG) and the supervisor kills the rest (``supervisor.sweep``).
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence

LEFTOVER_GRACE = 5.0
# Seconds to wait for the end of killed processes; one in a stuck driver call may never end.
KILL_PATIENCE = 10.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_START = 127


def prctl(option: int, value: int) -> None:
    """Call Linux's prctl with one argument.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def process_table() -> dict[int, int]:
    """Parent process id of each living process, by process id; zombies are left out."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 -- a guard starts without pathlib
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 -- as above
                stat = file.read()
        except OSError:
            continue  # it ended while we looked
        # The name in brackets may hold any character, so the fields are counted from its end.
        state, parent = stat[stat.rindex(b")") + 2 :].split(None, 2)[:2]
        if state not in (b"Z", b"X"):
            parents[int(name)] = int(parent)
    return parents


def descendants(root: int) -> list[int]:
    """Living processes below ``root``, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid, parent in process_table().items():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def command_line(pid: int) -> bytes:
    """The command line of a process from /proc; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 -- as above
            return file.read()
    except OSError:
        return b""


def send(pid: int, signum: int) -> bool:
    """Send a signal to one process; False if it is gone or may not be signalled."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Guard:
    """The guard of one job.

    Args:
        lifeline: Read end of a pipe whose write end the supervisor's process holds.
        parent: Process id of the supervisor's process.
        grace: Seconds between SIGTERM and SIGKILL when the supervisor stops the job.
        orphan_grace: The same when the supervisor's process is gone.
    """

    def __init__(self, lifeline: int, parent: int, grace: float, orphan_grace: float) -> None:
        self.lifeline = lifeline
        self.parent = parent
        self.grace = grace
        self.orphan_grace = orphan_grace
        self.child = 0
        self.status: int | None = None  # the child's wait status
        self.alone = False  # no child is left, and as subreaper therefore no descendant
        self.told = False  # SIGTERM arrived
        self.orphaned = False  # the supervisor's process is gone
        self.hurried = False  # the deadline is already shortened to orphan_grace
        self.deadline: float | None = None  # when SIGKILL follows; None: not stopping
        self.asked: dict[int, bytes] = {}  # process that got SIGTERM -> its command line then

    def run(self, argv: Sequence[str]) -> int:
        """Start the job, wait for its end, end what is left of it, and return its wait status."""
        os.set_inheritable(self.lifeline, False)
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.wake, wake_end = os.pipe()
        for end in (self.wake, wake_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the loop
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        self.child = self._spawn(argv)
        while not self._finished():
            self._wait(1.0 if self.deadline is None else 0.1)
        return self.status if self.status is not None else 0

    def _on_term(self, *_: object) -> None:
        self.told = True

    def _spawn(self, argv: Sequence[str]) -> int:
        """Fork and execute the job; returns its process id."""
        guard = os.getpid()
        # SIGTERM is blocked until the child has reset the handlers: the guard's handler would
        # swallow a SIGTERM that arrives between fork and reset.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return child
        try:
            signal.set_wakeup_fd(-1)
            for signum in (
                signal.SIGTERM,
                signal.SIGCHLD,
                signal.SIGINT,
                signal.SIGHUP,
                signal.SIGQUIT,
                signal.SIGPIPE,
                signal.SIGXFSZ,
            ):
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # the guard died before PDEATHSIG was set
                os._exit(_CANNOT_START)
            os.setpgid(0, 0)  # a job that signals its own group must not hit the guard
            os.execvpe(argv[0], list(argv), os.environ)
        except OSError as error:
            os.write(
                2, f"cannot start {argv[0]}: {error.strerror}\n".encode(errors="backslashreplace")
            )
        finally:
            os._exit(_CANNOT_START)

    def _wait(self, seconds: float) -> None:
        """Wait for a signal or the end of the parent, at most ``seconds``."""
        watched = [self.wake] if self.orphaned else [self.wake, self.lifeline]
        ready = select.select(watched, (), (), seconds)[0]
        if self.wake in ready:
            os.read(self.wake, 4096)
        # Check the parent too: a forked child of the supervisor's process may hold the pipe open.
        if (
            self.lifeline in ready and not os.read(self.lifeline, 4096)
        ) or os.getppid() != self.parent:
            self.orphaned = True

    def _finished(self) -> bool:
        """One round: reap children, decide whether to stop, signal; True if nothing is left."""
        self._reap()
        if self.alone:
            return True
        now = time.monotonic()
        if self.deadline is None:
            if self.told:
                self.deadline = now + self.grace
            elif self.status is not None:
                self.deadline = now + LEFTOVER_GRACE
        if self.orphaned and not self.hurried:
            self.hurried = True
            self.deadline = min(self.deadline or math.inf, now + self.orphan_grace)
        if self.deadline is None:
            return False
        living = descendants(os.getpid())
        if now < self.deadline:
            for pid in living:
                # A process that executed another program since may have lost the signal between
                # fork and exec, so it gets a new one.
                program = command_line(pid)
                if self.asked.get(pid) != program and send(pid, signal.SIGTERM):
                    send(pid, signal.SIGCONT)  # a stopped process cannot act on the request
                    self.asked[pid] = program
            return False
        for pid in living:
            send(pid, signal.SIGKILL)
        return now > self.deadline + KILL_PATIENCE

    def _reap(self) -> None:
        """Collect the children that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.alone = True
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status
            self.asked.pop(pid, None)


def end_like(status: int) -> int:
    """The exit code for a wait status.

    If the job died by a signal, the guard sends that signal to itself, so that its parent sees the
    same end.
    """
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    signum = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    return 128 + signum


def main(arguments: Sequence[str]) -> int:
    """Run the guard with the arguments of its command line; returns the exit code."""
    lifeline, parent, grace, orphan_grace, dashes, *argv = arguments
    if dashes != "--" or not argv:
        raise SystemExit("guard.py LIFELINE PARENT GRACE ORPHAN_GRACE -- ARGV...")
    return end_like(Guard(int(lifeline), int(parent), float(grace), float(orphan_grace)).run(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
