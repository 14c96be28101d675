"""Locks between processes, also on file systems without locks.

Lustre mounted without ``-o flock`` is one of them. There a soft lock is used: a file that exists
while the lock is held. The kernel does not release it when its process dies, so the file names its
holder, and the holder touches it at intervals.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import math
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import EasiError

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
SOFT = ".soft"
QUIET = 5.0  # seconds of waiting before the holder of a soft lock is checked and named
SAID_AGAIN = 60.0  # seconds between two messages that name the holder
SIGN = 60.0  # seconds between two touches of a soft lock's file by its holder
PATIENCE = 600.0  # seconds without a touch after which a holder on another machine is given up
# filelock adds the PID namespace to the host name of a process in a container. A process outside
# containers is in the kernel's first namespace.
NAMESPACE, FIRST_NAMESPACE = "?pidns-", 0xEFFFFFFC


@functools.cache
def lacks_locks(folder: Path) -> bool:
    """Return whether the file system of ``folder`` has no locks, by trying to lock a file there.

    If the folder does not exist, its nearest existing parent is tried. False if no file can be
    written there, because then no lock is needed.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return False


def file_lock(
    path: str | Path, patience: float = PATIENCE, quiet: float = QUIET, sign: float = SIGN
) -> BaseFileLock:
    """Return a lock for a ``with`` block, which one process holds at a time.

    A lock left by a killed process can be acquired again. On a file system without locks it is a
    soft lock, whose file has the suffix ``SOFT``: a real lock leaves its file behind, and as a soft
    lock that file would count as held.

    Args:
        path: The file of the lock.
        patience: Seconds without a sign after which a soft lock of another machine is given up.
        quiet: Seconds of waiting before the holder of a soft lock is checked and named.
        sign: Seconds between two touches of a soft lock's file while it is held.

    Returns:
        The lock. Acquiring a soft lock without a timeout waits as described in ``Waiting``.
    """
    from filelock import FileLock

    if not lacks_locks(Path(path).absolute().parent):
        return FileLock(path)
    told = _soft_lock()(f"{path}{SOFT}")
    told.patience, told.quiet, told.sign = patience, quiet, sign
    lock: BaseFileLock = told
    return lock


@functools.cache
def _soft_lock() -> type[Any]:
    from filelock import SoftFileLock, Timeout

    class Told(SoftFileLock):
        """Soft lock that touches its file while held, and waits as described in ``Waiting``."""

        patience, quiet, sign = PATIENCE, QUIET, SIGN
        released: threading.Event | None = None

        def acquire(self, timeout: float | None = None, *args: Any, **options: Any) -> Any:
            waiting = Waiting(self, on_stderr, self.patience, self.quiet)
            while True:
                try:
                    told = timeout is None or timeout < 0
                    held = super().acquire(
                        min(1.0, self.quiet) if told else timeout, *args, **options
                    )
                    break
                except Timeout:
                    if not told:
                        raise
                    waiting.heed()
            if self.released is None:
                self.released = threading.Event()
                threading.Thread(
                    target=_give_signs, args=(self.lock_file, self.released, self.sign), daemon=True
                ).start()
            return held

        def release(self, force: bool = False) -> None:
            super().release(force)
            if self.released is not None and not self.is_locked:
                self.released.set()
                self.released = None

    return Told


def _give_signs(path: str, released: threading.Event, pause: float) -> None:
    """Touch the file at intervals: other machines cannot see whether its process is alive."""
    while not released.wait(pause):
        with contextlib.suppress(OSError):
            os.utime(path)


def on_stderr(line: str) -> None:
    """Print the line on standard error."""
    print(line, file=sys.stderr, flush=True)


class Waiting:
    """Checks while a soft lock is waited for.

    After ``quiet`` seconds the file of a dead process of this machine is removed; any other holder
    is named in a message. A living process of this machine is waited for without limit. A holder
    that cannot be seen from here, on another machine or in another container, is given up once it
    has not touched its file for ``patience`` seconds. A real lock needs none of this, because the
    kernel releases it with its process.

    Args:
        lock: The lock that is waited for.
        say: Receives the messages.
        patience: Seconds without a touch after which an invisible holder is given up.
        quiet: Seconds of waiting before the first check.
    """

    def __init__(
        self,
        lock: BaseFileLock,
        say: Callable[[str], None],
        patience: float = PATIENCE,
        quiet: float = QUIET,
    ) -> None:
        self.path = Path(lock.lock_file)
        self.soft = self.path.name.endswith(SOFT)
        self.say, self.patience, self.quiet = say, patience, quiet
        self.began = self.signed = time.monotonic()
        self.sign = 0.0
        self.told = -math.inf

    def heed(self) -> None:
        """Check the holder; to be called about every second while waiting.

        Raises:
            EasiError: The holder is given up.
        """
        now = time.monotonic()
        if not self.soft or now - self.began < self.quiet:
            return
        if (holder := _holder(self.path)) is None:
            return  # just released
        if holder.gone():
            _evict(self.path)
            return
        with contextlib.suppress(OSError):
            if (sign := self.path.stat().st_mtime) != self.sign:
                self.sign, self.signed = sign, now
        if not holder.here() and now - self.signed >= self.patience:
            raise EasiError(
                f"{self.path} is held by {holder}, "
                f"which has shown no activity for {self.patience / 60:.0f} minutes",
                hint="delete it if no run uses it",
            )
        if now - self.told >= SAID_AGAIN:
            self.told = now
            self.say(f"waiting for {self.path}, locked by {holder}")


@dataclass(frozen=True)
class _Holder:
    """The process that holds a soft lock, as its file names it; 0 and "" if unknown."""

    pid: int = 0
    host: str = ""
    start: str = ""  # as returned by ``process_start``

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "an unknown process"

    def here(self) -> bool:
        """Return whether the process is in this machine and container, so that it can be seen."""
        name, _, space = self.host.partition(NAMESPACE)
        if not self.pid or name != socket.gethostname():
            return False
        try:
            own = Path("/proc/self/ns/pid").stat().st_ino
        except OSError:
            return not space
        return own == (int(space, 16) if space else FIRST_NAMESPACE)

    def gone(self) -> bool:
        """Return whether the process is known to have ended, or its pid to be another's now."""
        if not self.here():
            return False
        start = process_start(self.pid)
        return not start or bool(self.start and start != self.start)


def _holder(path: Path) -> _Holder | None:
    """Return the holder named in a soft lock's file, None if there is no such file.

    filelock writes the pid, the host, and the start time of the process, one per line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        start = str(int(lines[2]) % 2**64) if len(lines) > 2 else ""
        return _Holder(int(lines[0]), lines[1], start)
    except OSError:
        return None
    except (ValueError, IndexError):
        return _Holder()


def _evict(path: Path) -> None:
    """Remove the soft lock of a dead process.

    filelock does this itself by exchanging two files, which NFS refuses. Only processes of this
    machine can see that the holder is dead; a lock in the temporary folder makes them check one
    after the other, so that none removes the file of a new holder.
    """
    mark = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    with (Path(tempfile.gettempdir()) / f"easi-{os.getuid()}-{mark}.lock").open("a") as guard:
        with contextlib.suppress(OSError):
            fcntl.flock(guard, fcntl.LOCK_EX)
        if (holder := _holder(path)) is not None and holder.gone():
            # Another user's file cannot be removed; the message then names the holder.
            with contextlib.suppress(OSError):
                path.unlink()


def process_start(pid: int) -> str:
    """Return the kernel's start time of a process, "" if there is no such process.

    It distinguishes the process from a later one with the same pid.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def unlocked(places: Mapping[str, Path]) -> list[str]:
    """Return a warning if some of the ``places`` are on file systems without locks.

    Args:
        places: Folders by description. One inside another without locks is not named.
    """
    without = {
        what: folder.absolute() for what, folder in places.items() if lacks_locks(folder.absolute())
    }
    named = [
        f"{what} {folder}"
        for what, folder in without.items()
        if without.keys().isdisjoint(
            other for other, above in places.items() if above.absolute() in folder.parents
        )
    ]
    if not named:
        return []
    return [
        f"the file system of {' and '.join(named)} has no file locks; lock files are used "
        f"instead, which work for processes of one machine: use these folders from one machine at "
        f"a time"
    ]
