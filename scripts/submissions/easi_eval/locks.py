"""Locks between processes, also on a file system that has none (Lustre mounted without ``-o flock``)."""

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
QUIET = 5.0  # seconds for which a lock is waited for without a word
SAID_AGAIN = 60.0
SIGN = 60.0  # a holder touches its file that often
PATIENCE = 600.0  # for one that cannot be seen from here and gives no sign
# How filelock marks the host of a process in a container; one of the machine itself has the
# kernel's first namespace.
NAMESPACE, FIRST_NAMESPACE = "?pidns-", 0xEFFFFFFC


@functools.cache
def lacks_locks(folder: Path) -> bool:
    """Whether no file can be locked in ``folder``, or in what is there of it: tried on one. Where nothing can be written nobody locks."""
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
    """Held by one process at a time, in a ``with`` block; others wait. What a process left that was killed is taken over.

    Without locks a file stands for it while it is held. Its name is another: a real lock leaves its
    file behind, which would count as held. Who waits for it without a timeout
    does so as ``Waiting`` says.
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
        """Without a timeout it says whom it waits for, and gives up one that cannot be seen."""

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
    """Touch the file now and then: other machines cannot see that its process lives."""
    while not released.wait(pause):
        with contextlib.suppress(OSError):
            os.utime(path)


def on_stderr(line: str) -> None:
    """Print the line."""
    print(line, file=sys.stderr, flush=True)


class Waiting:
    """What is done while a file that stands for a lock is waited for; a real lock ends with its process.

    After ``quiet`` seconds the holder is named, or its file is removed where it is a process of this
    machine that is gone. One that cannot be seen from here is given up after ``patience`` without a
    sign; one that lives is waited for.
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
        """To be called every second or so. Raises EasiError when it is given up."""
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
                f"of which nothing was seen for {self.patience / 60:.0f} minutes",
                hint="delete it if no run uses it",
            )
        if now - self.told >= SAID_AGAIN:
            self.told = now
            self.say(f"waiting for {self.path}, which is held by {holder}")


@dataclass(frozen=True)
class _Holder:
    """Who a file that stands for a lock says it is held by; 0 and "" where it does not say."""

    pid: int = 0
    host: str = ""
    start: str = ""  # as ``process_start`` tells it

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "a process that left no name"

    def here(self) -> bool:
        """Whether it would be seen from here; a process of another container would not."""
        name, _, space = self.host.partition(NAMESPACE)
        if not self.pid or name != socket.gethostname():
            return False
        try:
            own = Path("/proc/self/ns/pid").stat().st_ino
        except OSError:
            return not space
        return own == (int(space, 16) if space else FIRST_NAMESPACE)

    def gone(self) -> bool:
        if not self.here():
            return False
        start = process_start(self.pid)
        return not start or bool(self.start and start != self.start)


def _holder(path: Path) -> _Holder | None:
    """None where there is no such file. filelock writes process, host and the process's start."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        start = str(int(lines[2]) % 2**64) if len(lines) > 2 else ""
        return _Holder(int(lines[0]), lines[1], start)
    except OSError:
        return None
    except (ValueError, IndexError):
        return _Holder()


def _evict(path: Path) -> None:
    """Remove what a dead process left where filelock cannot: it exchanges two files, which NFS refuses.

    Only processes of this machine see that it is dead, and they do it one after the other.
    """
    mark = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:32]
    with (Path(tempfile.gettempdir()) / f"easi-{os.getuid()}-{mark}.lock").open("a") as guard:
        with contextlib.suppress(OSError):
            fcntl.flock(guard, fcntl.LOCK_EX)
        if (holder := _holder(path)) is not None and holder.gone():
            with contextlib.suppress(
                OSError
            ):  # somebody else's: it is named, and asked to be deleted
                path.unlink()


def process_start(pid: int) -> str:
    """The kernel's start time of a process, which tells it from a later one with the same pid; "" if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def unlocked(places: Mapping[str, Path]) -> list[str]:
    """What to say of the ``places``, by what they are, whose file systems have no locks; one inside another is not named."""
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
        f"the file system of {' and '.join(named)} has no file locks: other files stand for them, which one machine's processes heed; "
        "use these folders from one machine at a time"
    ]
