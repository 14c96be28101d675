"""Identify a worker process and tell whether it still lives."""

from __future__ import annotations

import functools
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Identifies a worker process; no other process, now or later, has the same values."""

    host: str
    pid: int
    started: int  # clock ticks after boot; a reused pid has another

    @classmethod
    def this(cls) -> Owner:
        """The calling process."""
        pid = os.getpid()
        return cls(_host(), pid, _started(pid) or 0)

    def alive_here(self) -> bool | None:
        """Whether the process lives; None if it runs in another machine or container."""
        if self.host != _host() or self.started == 0:
            return None
        return _started(self.pid) == self.started


@functools.cache
def _host() -> str:
    """This machine since its last boot and, as pids mean nothing outside it, this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()}/{uuid.getnode():x}"


def _started(pid: int) -> int | None:
    """Start time of a living process, None for one that is gone or only waits to be reaped."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(rest[18])
