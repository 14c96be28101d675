"""Ctrl-C, SIGTERM and SIGHUP as one KeyboardInterrupt, which cleaning up can defer.

SIGUSR2 says that a time limit is near.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class _Interrupts:
    """Signal handler that raises one KeyboardInterrupt for SIGINT, SIGTERM or SIGHUP.

    It does not raise inside ``defer_interrupts()``; there it is deferred.

    Attributes:
        announce: Called at once by the first signal, also where the interrupt is deferred.
    """

    def __init__(self) -> None:
        self.installed = False
        self.raised = False
        self.pending = False
        self.depth = 0
        self.announce: Callable[[], None] = lambda: None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.raised or self.pending:
            return
        if self.depth:
            self.pending = True
        else:
            self.raised = True
        self.announce()
        if self.raised:
            raise KeyboardInterrupt


_interrupts = _Interrupts()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt once; later ones are ignored.

    So a second Ctrl-C cannot interrupt the cleanup. The handlers are restored when the block is
    left. Signals that were ignored at the start (nohup, background jobs of a shell) stay ignored.
    The block has no effect inside another one and outside the main thread.
    """
    if _interrupts.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    _interrupts.installed = True
    _interrupts.raised = _interrupts.pending = False
    try:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                before[signum] = signal.signal(signum, _interrupts)
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _interrupts.installed = False


def interrupt() -> None:
    """Do what Ctrl-C does; may be called from any thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


# Seconds after the signal, which is asked for 120 before the limit; to end the workers may take 45.
LEAVE_WITHIN = 70.0


class TimeLimit:
    """SIGUSR2, which Slurm sends before a time limit (``--signal=B:USR2@120``), inside a block.

    It ends what is going on as Ctrl-C does. With ``drains`` it is only noted, so that the questions
    in hand are finished first.

    Attributes:
        near: Whether the signal came.
        drains: Whether the signal is only noted.
        leaves: Whether the work was ended for it; a job that is cancelled must not be requeued.
    """

    def __init__(self) -> None:
        self.near = self.drains = self.leaves = False
        self._since = 0.0

    def __enter__(self) -> TimeLimit:
        self._before = signal.signal(signal.SIGUSR2, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self.near = self.drains = self.leaves = False
        signal.signal(signal.SIGUSR2, self._before)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if not self.near:
            self.near, self._since = True, time.monotonic()
        if not self.drains:
            self.leave()

    @property
    def overdue(self) -> bool:
        """Whether the questions in hand must be given up, because little time is left."""
        return self.near and time.monotonic() - self._since > LEAVE_WITHIN

    def leave(self) -> None:
        """End what is going on."""
        if not (_interrupts.raised or _interrupts.pending):  # else it was cancelled before
            self.leaves = True
        interrupt()


time_limit = TimeLimit()


@contextmanager
def announced(announce: Callable[[], None]) -> Iterator[None]:
    """Have ``announce`` called as soon as an interrupt arrives inside this block.

    The signal handler calls it, so it may take no lock and use no buffered stream.
    """
    before, _interrupts.announce = _interrupts.announce, announce
    try:
        yield
    finally:
        _interrupts.announce = before


def rearm() -> None:
    """Let the next signal raise KeyboardInterrupt again; call it when the cleanup is done."""
    _interrupts.raised = _interrupts.pending = False


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Defer an interrupt that arrives inside this block to its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with interruptible():
        _interrupts.depth += 1
        try:
            yield
        finally:
            _interrupts.depth -= 1
            if not _interrupts.depth and _interrupts.pending and not _interrupts.raised:
                _interrupts.raised = True
                raise KeyboardInterrupt
