"""The lock of a run: one process works in a run's folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from .errors import EasiError
from .locks import NO_LOCKS, process_start

FLOCK = "hhqqi4x"  # the kernel's struct flock: type, whence, start, length, pid


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a run while the block is active.

    It is a POSIX lock, because the kernel releases it when the process ends, however that ends, and
    because forked guards do not inherit it. On a file system without locks the owner recorded in
    the file decides, and the file of a dead owner is taken over.

    Raises:
        EasiError: Another process holds the lock, which the message names, or the lock file cannot
            be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise EasiError(
            f"{path} cannot be written: {error.strerror}", hint="give another --output-dir"
        ) from error
    with opened as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(file)
            if error.errno not in NO_LOCKS:
                raise _locked(path, owner) from error
            if owner_alive(owner):
                raise _locked(path, owner) from error
        file.seek(0)
        file.truncate()
        json.dump(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": process_start(os.getpid()),
            },
            file,
        )
        file.flush()
        try:
            yield
        finally:
            # The file is not deleted: otherwise one run could hold the deleted file while another
            # one creates and locks a new file of the same name.
            file.truncate(0)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a run; takes nothing, and so holds up no run."""
    try:
        with path.open(encoding="utf-8") as file:
            wanted = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            try:
                found = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
            except OSError as error:
                return error.errno in NO_LOCKS and owner_alive(_owner(file))
            return bool(struct.unpack(FLOCK, found)[0] != fcntl.F_UNLCK)
    except OSError:
        return False


def _owner(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        # It is being written at this moment, or a run that ended left it empty.
        return {}
    return owner if isinstance(owner, dict) else {}


def owner_alive(owner: Mapping[str, Any]) -> bool:
    """Whether the process recorded in a lock file may still run.

    One on another host cannot be checked and counts as alive.
    """
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    return process_start(int(owner["pid"])) == owner.get("started") != ""


def _locked(path: Path, owner: Mapping[str, object]) -> EasiError:
    who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
    return EasiError(
        f"{path.parent} is in use by {who}",
        hint="wait for it or end it, or give another --output-dir",
    )
