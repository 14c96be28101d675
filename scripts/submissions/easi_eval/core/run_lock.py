"""The lock of a run: one process works in a run's folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from .errors import EasiError
from .locks import NO_LOCKS, on_stderr, process_start

SIGN = 5.0  # seconds between two signs of life in the lock file
SILENT = 30.0  # seconds without one after which a holder on another machine is taken for dead
FLOCK = "hhqqi4x"  # the kernel's struct flock: type, whence, start, length, pid


@contextlib.contextmanager
def run_lock(path: Path, sign: float = SIGN, silent: float = SILENT) -> Iterator[None]:
    """Hold the lock of a run while the block is active.

    It is a POSIX lock, because the kernel releases it when the process ends, however that ends, and
    because forked guards do not inherit it. On a file system without locks the owner recorded in
    the file decides, and the file of a dead owner is taken over.

    Some shared file systems have locks that other machines do not see. Therefore the holder writes
    a number into the file at intervals, and who finds the file of another machine watches it first.

    Args:
        path: The file.
        sign: Seconds between two signs of life.
        silent: Seconds for which the file of another machine is watched.

    Raises:
        EasiError: Another process holds the lock, which the message names, or the lock file cannot
            be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        opened = path.open("r+", encoding="utf-8")  # not "a": Linux would append each sign
    except OSError as error:
        raise EasiError(
            f"{path} cannot be written: {error.strerror}", hint="give another --output-dir"
        ) from error
    _watch(path, silent)
    with opened as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(file)
            if error.errno not in NO_LOCKS:
                raise _locked(path, owner) from error
            if owner_alive(owner):
                raise _locked(path, owner) from error
        file.truncate(0)
        over = threading.Event()
        signs = threading.Thread(target=_give_signs, args=(file.fileno(), over, sign), daemon=True)
        _write(file.fileno(), 0)
        signs.start()
        try:
            yield
        finally:
            over.set()
            signs.join()
            # The file is not deleted: otherwise one run could hold the deleted file while another
            # one creates and locks a new file of the same name.
            file.truncate(0)


def _write(file: int, number: int) -> bytes:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": process_start(os.getpid()),
        "sign": f"{number:08}",
    }
    data = json.dumps(owner).encode()
    os.pwrite(file, data, 0)
    os.fsync(file)
    return data


def _give_signs(file: int, over: threading.Event, pause: float) -> None:
    number, written = 0, b""
    while not over.wait(pause):
        with contextlib.suppress(OSError):  # a full disk; the run says so elsewhere
            if written and os.pread(file, len(written) + 1, 0) != written:
                on_stderr("another machine took this run over, because this one was silent")
                os.kill(os.getpid(), signal.SIGTERM)
                break
            written = _write(file, number := number + 1)


def _watch(path: Path, seconds: float) -> None:
    """Look for signs of life of a holder on another machine, if its lock cannot be seen from here.

    Raises:
        EasiError: There is one.
    """
    before = _owner_of(path)
    if before.get("host", socket.gethostname()) == socket.gethostname() or _is_held(path):
        return
    on_stderr(f"{path} names {_name(before)}; waiting {seconds:g} s for a sign of it")
    until = time.monotonic() + seconds
    while time.monotonic() < until and (owner := _owner_of(path)):
        if owner != before:
            raise _locked(path, owner)
        time.sleep(min(1.0, seconds / 10))


def _owner_of(path: Path) -> dict[str, Any]:
    # Opened anew each time: only then a network file system shows what others have written.
    with path.open(encoding="utf-8") as file:
        return _owner(file)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a run; takes nothing, and so holds up no run."""
    held = _is_held(path)
    return owner_alive(_owner_of(path)) if held is None else held


def _is_held(path: Path) -> bool | None:
    """Whether a lock on the file is seen from here; None where the file system has no locks."""
    try:
        with path.open(encoding="utf-8") as file:
            wanted = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            try:
                found = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
            except OSError as error:
                return None if error.errno in NO_LOCKS else False
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
    hint = "wait for it or end it, or give another --output-dir"
    if owner and owner["host"] != socket.gethostname():
        hint += f"; if {owner['host']} is gone for good, delete {path}"
    return EasiError(f"{path.parent} is in use by {_name(owner)}", hint=hint)


def _name(owner: Mapping[str, object]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if owner else "another process"
