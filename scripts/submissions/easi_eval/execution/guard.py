"""Stands between us and one job, so that no process of the job can outlive us or the job.

Started by the supervisor as ``python -I -S guard.py LIFELINE PARENT GRACE ORPHAN_GRACE -- ARGV...`` in a session of
its own: standard library only, few imports, because every job pays for its start.

It is the subreaper of everything below it: a daemonised grandchild becomes its child instead of init's, so the whole
tree can be walked through /proc. It ends the tree, SIGTERM first and SIGKILL after a grace,

* on SIGTERM (the supervisor wants the job to stop): after GRACE seconds,
* when our process is gone, seen by end of file on the LIFELINE pipe or by a changed parent: after ORPHAN_GRACE,
* when the job itself has ended and left processes behind: after ``LEFTOVER_GRACE``.

A supervisor that is merely stopped (SIGSTOP) keeps the pipe open, and nothing happens. The guard ends as the job did:
with its exit code, or by its signal. If the guard is killed, the job's first process dies with it (PDEATHSIG), and the
supervisor sweeps up the rest.
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
KILL_PATIENCE = (
    10.0  # how long a killed process may take to go (a stuck driver call) before we stop waiting
)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_START = 127


def prctl(option: int, value: int) -> None:
    """Linux's prctl with one argument; OSError if the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def process_table() -> dict[int, int]:
    """Living processes (zombies left out) and their parents, by process id."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 -- a guard starts without pathlib
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 -- as above
                stat = file.read()
        except OSError:
            continue  # it ended while we looked
        state, parent = stat[stat.rindex(b")") + 2 :].split(None, 2)[
            :2
        ]  # the name in brackets may hold anything
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
    """What a process runs, as /proc has it; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 -- as above
            return file.read()
    except OSError:
        return b""


def send(pid: int, signum: int) -> bool:
    """Signal one process; False if it is gone or not ours to signal."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Guard:
    def __init__(self, lifeline: int, parent: int, grace: float, orphan_grace: float) -> None:
        self.lifeline = lifeline
        self.parent = parent
        self.grace = grace
        self.orphan_grace = orphan_grace
        self.child = 0
        self.status: int | None = None  # the child's wait status
        self.alone = False  # no child of any kind is left, hence no descendant either
        self.told = False  # SIGTERM arrived
        self.orphaned = False
        self.hurried = False  # the deadline already allows for our process being gone
        self.deadline: float | None = None  # of the stop that is under way
        self.asked: dict[
            int, bytes
        ] = {}  # processes that got SIGTERM, and what they were running then

    def run(self, argv: Sequence[str]) -> int:
        """Start the job, see it to its end, leave nothing behind; its wait status."""
        os.set_inheritable(self.lifeline, False)
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.wake, wake_end = os.pipe()
        for end in (self.wake, wake_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only there to wake the loop
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        self.child = self._spawn(argv)
        while not self._finished():
            self._wait(1.0 if self.deadline is None else 0.1)
        return self.status if self.status is not None else 0

    def _on_term(self, *_: object) -> None:
        self.told = True

    def _spawn(self, argv: Sequence[str]) -> int:
        guard = os.getpid()
        # held back until our handlers are gone in the child, where they would swallow a request to stop
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
            if os.getppid() != guard:  # it died before we could ask to die with it
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
        watched = [self.wake] if self.orphaned else [self.wake, self.lifeline]
        ready = select.select(watched, (), (), seconds)[0]
        if self.wake in ready:
            os.read(self.wake, 4096)
        # the parent is looked at as well: a forked child of ours may hold the other end of the pipe open
        if (
            self.lifeline in ready and not os.read(self.lifeline, 4096)
        ) or os.getppid() != self.parent:
            self.orphaned = True

    def _finished(self) -> bool:
        """One round: reap, decide whether to stop, carry on with stopping. True if nothing is left to do."""
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
                # a process that has become another program since may have lost the request between fork and exec
                program = command_line(pid)
                if self.asked.get(pid) != program and send(pid, signal.SIGTERM):
                    send(pid, signal.SIGCONT)  # a stopped process cannot act on the request
                    self.asked[pid] = program
            return False
        for pid in living:
            send(pid, signal.SIGKILL)
        return now > self.deadline + KILL_PATIENCE

    def _reap(self) -> None:
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
    """The exit code of a wait status; a death by signal is repeated on ourselves, so that our parent sees it."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    signum = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    return 128 + signum


def main(arguments: Sequence[str]) -> int:
    lifeline, parent, grace, orphan_grace, dashes, *argv = arguments
    if dashes != "--" or not argv:
        raise SystemExit("guard.py LIFELINE PARENT GRACE ORPHAN_GRACE -- ARGV...")
    return end_like(Guard(int(lifeline), int(parent), float(grace), float(orphan_grace)).run(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
